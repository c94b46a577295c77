"""Put before cli.py in a temporary copy: every subcommand in milliseconds, its outputs a function of its inputs.

What the rules and stages must guarantee is who runs when, on what, and what is recorded; this takes the place of the
work itself. The end-to-end test runs the real commands.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path


def stand_in() -> None:
    """Write what the subcommand would write, made of hashes."""
    command, *words = sys.argv[1:]
    options, inputs = {}, []
    while words:
        word = words.pop(0)
        if word.startswith("--mirror="):
            continue
        if word.startswith("--"):
            options.setdefault(word[2:], []).append(words.pop(0))
        else:
            inputs.append(word)

    def read(path):
        if "{" in str(path) or "/" not in str(path):
            return str(path)
        path = Path(path)
        return "".join(map(read, sorted(path.iterdir()))) if path.is_dir() else path.read_bytes().hex()

    written = ("out", "modules", "state", "sr", "summary", "timings", "measured", "checkpoint-every")
    used = [*inputs, *(value for key, values in options.items() if key not in written for value in values)]
    if command == "download":
        blocks = json.loads(options["params"][0])
        used += [value for key, value in blocks.items() if key.endswith(".folder") and value]
    seed = hashlib.sha256("".join([command, *map(read, used)]).encode()).hexdigest()

    def write(path, text=seed):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text)
        part.replace(path)

    with Path(os.environ["RAN"]).open("a") as log:
        log.write(" ".join([command, *(word for word in inputs if "/" not in word)]) + "\n")
    out = Path(options["out"][0])
    if command in ("download", "prepare"):
        write(out / "hr" / "a.png")
        entry = {"path": "hr/a.png", "sha256": hashlib.sha256(seed.encode()).hexdigest(), "size": len(seed)}
        write(out / "manifest.json", json.dumps({"set": inputs[0], "source": "demo", "files": [entry]}))
    elif command in ("train-match", "train-rec", "train-full"):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        for name in ("config.json", "model.safetensors", "training.json"):
            write(out / name)
        write(out / "train_log.csv", f"step,validation_psnr\n1,{int(seed[:4], 16)}\n")
    elif command in ("evaluate", "merge-parts"):
        write(out, f"image,psnr_y\na,{int(seed[:4], 16)}\n")
        write(options["summary"][0], json.dumps({"psnr": int(seed[:4], 16)}))
        write(Path(options["sr"][0]) / "a.png")
    elif command == "collect-plots":
        for name in ("training", "images", "kernel_psnr", "references"):
            write(out / f"{name}.csv", f"step,extracter\n1,{int(seed[:4], 16)}\n")
    elif command == "collect-metrics":
        write(out, json.dumps({"set14": {"extracter_rec": {"psnr": int(seed[:4], 16)}}}))
    elif command == "evaluate-levels":
        write(out, f"image,level,gain\na,level_1,{int(seed[:4], 16)}\n")
        write(options["summary"][0], json.dumps({"gain": int(seed[:4], 16)}))
    elif command in ("kernel-sweep", "map-origins"):
        write(out)
    else:
        for path in map(Path, [out, *options.get("modules", [])]):
            write(path)
            write(path.with_suffix(".md"))


if Path(sys.argv[0]).name == "extracter":
    stand_in()
    sys.exit()
