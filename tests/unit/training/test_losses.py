"""Each loss against a value worked out by hand or in NumPy."""

import numpy as np
import pytest
import torch

from extracter.models.vgg import VGG19, initialise_vgg
from extracter.training import losses


def pair(size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.rand(2, 3, size, size, generator=generator) * 2 - 1 for _ in range(2))


def test_reconstruction_is_the_mean_absolute_difference():
    sr, hr = pair()
    wanted = np.abs(sr.numpy().astype(np.float64) - hr.numpy()).mean()
    assert losses.reconstruction_loss(sr, hr).item() == pytest.approx(wanted, rel=1e-6)


def test_gradient_loss_by_loops():
    sr, hr = pair(5)

    def density(x):
        x = np.pad((x.numpy().astype(np.float64) + 1) / 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.empty((2, 3, 5, 5))
        for r in range(5):
            for c in range(5):
                w = x[:, :, r : r + 3, c : c + 3]
                gx = w[..., 0, 2] + 2 * w[..., 1, 2] + w[..., 2, 2] - w[..., 0, 0] - 2 * w[..., 1, 0] - w[..., 2, 0]
                gy = w[..., 2, 0] + 2 * w[..., 2, 1] + w[..., 2, 2] - w[..., 0, 0] - 2 * w[..., 0, 1] - w[..., 0, 2]
                out[:, :, r, c] = np.sqrt(gx**2 + gy**2 + 1e-6)
        return out

    wanted = np.abs(density(sr) - density(hr)).mean()
    assert losses.gradient_loss(sr, hr).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("mse", 2)])
def test_perceptual_loss_is_the_distance_at_relu5_1(norm, power):
    vgg = VGG19(depth=5, width=4)
    initialise_vgg(vgg, "random", 0)
    sr, hr = pair(32)
    features = []
    for image in (sr, hr):
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((image + 1) / 2 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
        for layer in vgg.features:
            x = layer(x)
        features.append(x.detach().numpy().astype(np.float64))
    wanted = (np.abs(features[0] - features[1]) ** power).mean()
    assert features[0].shape == (2, 32, 2, 2)
    assert losses.perceptual_loss(vgg, sr, hr, norm).item() == pytest.approx(wanted, rel=1e-5)
    sr.requires_grad_()
    losses.perceptual_loss(vgg, sr, hr, norm).backward()
    assert sr.grad.any()


def test_critic_loss_of_a_linear_critic():
    sr, hr = pair()
    w = torch.randn(3 * 64, generator=torch.Generator().manual_seed(4)).requires_grad_()

    def critic(x):
        return x.flatten(1) @ w.unsqueeze(1)

    # The slope of a linear critic is w everywhere, wherever the point between SR and HR lies.
    penalty = (w.norm().item() - 1) ** 2
    wanted = ((sr.flatten(1) - hr.flatten(1)) @ w).mean().item() + 10 * penalty
    loss = losses.critic_loss(critic, sr, hr, 10, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    by_hand = (sr - hr).flatten(1).mean(0) + 20 * (w.norm() - 1) * w / w.norm()
    torch.testing.assert_close(w.grad, by_hand.detach(), rtol=1e-4, atol=1e-4)
    assert losses.adversarial_loss(critic, sr).item() == pytest.approx(-(sr.flatten(1) @ w).mean().item(), rel=1e-5)


def test_critic_loss_measures_the_slope_between_sr_and_hr_and_leaves_sr_alone():
    sr, hr = pair()
    sr.requires_grad_()
    seen = []

    def critic(x):
        seen.append(x.detach().clone())
        return x.square().flatten(1).sum(1, keepdim=True)

    generator = torch.Generator().manual_seed(1)
    share = torch.rand(2, 1, 1, 1, generator=torch.Generator().manual_seed(1))
    loss = losses.critic_loss(critic, sr, hr, 1, generator)
    between = share * hr + (1 - share) * sr.detach()
    torch.testing.assert_close(seen[0], between)
    slope = 2 * between.flatten(1).norm(dim=1)
    wanted = sr.square().flatten(1).sum(1).mean() - hr.square().flatten(1).sum(1).mean() + (slope - 1).square().mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    loss.backward()
    assert sr.grad is None
