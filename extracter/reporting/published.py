"""Published figures, as data. Nothing here is measured.

Source of `TABLE1`, `TABLE2` and `TABLE3`: the paper, arXiv 2310.01379, tables 1 to 3. Sources of `ELSEWHERE`: papers of
SRNTT (CVPR 2019), TTSR (CVPR 2020), SSEN (CVPR 2020), MASA-SR (CVPR 2021), C2-Matching (CVPR 2021), AMSA (AAAI 2022)
and DATSR (ECCV 2022), and the README of the authors' released code. The paper's Table 1 leaves these figures out or has
others. DATSR's have not been held against its paper.
"""

# Key in params.yaml: name in print, number of images in the published set.
SETS = {"cufed5": ("CUFED5", 126), "sun80": ("Sun80", 80), "urban100": ("Urban100", 100), "set14": ("Set14", 14)}

Scores = dict[str, tuple[float, float]]


def _scores(*cells: tuple[float, float] | None) -> Scores:
    """Map PSNR (dB) and SSIM to the sets in the order of `SETS`. Sets without a figure are left out."""
    padded = (*cells, *(None,) * (len(SETS) - len(cells)))
    return {name: cell for name, cell in zip(SETS, padded, strict=True) if cell is not None}


TABLE1: dict[str, Scores] = {
    "SRNTT": _scores((25.61, 0.764), (27.59, 0.756), (25.09, 0.774), (26.73, 0.731)),
    "SRNTT-rec": _scores((26.24, 0.784), (28.54, 0.793), (25.50, 0.784), (27.68, 0.766)),
    "TTSR": _scores((25.63, 0.765), (28.59, 0.774), (24.69, 0.748), (26.88, 0.748)),
    "TTSR-rec": _scores((27.03, 0.802), (30.02, 0.814), (25.88, 0.784), (28.10, 0.782)),
    "SSEN-rec": _scores((26.78, 0.791)),
    "DPFSR": _scores((25.23, 0.749), (28.59, 0.774), (24.35, 0.734)),
    "DPFSR-rec": _scores((27.25, 0.808), (30.10, 0.815), (26.03, 0.787)),
    "C2-Matching": _scores((27.16, 0.805), (29.75, 0.799), (25.52, 0.764)),
    "Extracter": _scores((26.40, 0.789), (29.02, 0.789), (24.72, 0.752), (26.50, 0.740)),
    "Extracter-rec": _scores((27.29, 0.811), (30.02, 0.816), (26.04, 0.785), (28.09, 0.782)),
}

# Method and where its figures stand.
ELSEWHERE: dict[tuple[str, str], Scores] = {
    ("SRNTT-rec", "its paper"): _scores((26.24, 0.784), (28.54, 0.793), (25.50, 0.783)),
    ("TTSR", "its paper"): _scores((25.53, 0.765), (28.59, 0.774), (24.62, 0.747)),
    ("TTSR-rec", "its paper"): _scores((27.09, 0.804), (30.02, 0.814), (25.87, 0.784)),
    ("SSEN", "its paper"): _scores((25.35, 0.742)),
    ("C2-Matching-rec", "its paper"): _scores((28.24, 0.841), (30.18, 0.817), (26.03, 0.785)),
    ("Extracter-rec", "the authors' README"): _scores((27.43, 0.813), (30.14, 0.816), (26.04, 0.785), (28.15, 0.782)),
    ("MASA", "its paper"): _scores((24.92, 0.729), (27.12, 0.708), (23.78, 0.712)),
    ("MASA-rec", "its paper"): _scores((27.54, 0.814), (30.15, 0.815), (26.09, 0.786)),
    ("AMSA", "its paper"): _scores((27.31, 0.809), (29.83, 0.803), (25.60, 0.770)),
    ("AMSA-rec", "its paper"): _scores((28.50, 0.849), (30.29, 0.819), (26.18, 0.789)),
    ("DATSR-rec", "its paper"): _scores((28.72, 0.856), (30.52, 0.824), (26.52, 0.798)),
}

# References on CUFED5 and pixels cropped from the border in each system's published figures, as far as is known.
PROTOCOLS = {
    "SRNTT": "five references pooled (said by users); border not stated",
    "TTSR": "five references stitched in its paper, the most similar one in its code; no border cut",
    "SSEN": "not known",
    "DPFSR": "not known",
    "C2-Matching": "most similar reference; 4 px of the border cut",
    "Extracter": "most similar reference; no border cut",
    "MASA": "all references stitched, four by its authors' word; no border cut",
    "AMSA": "most similar reference; 4 px of the border cut",
    "DATSR": "most similar reference; 4 px of the border cut",
}

# Method and set of figures that are probably not theirs.
DOUBTFUL = {("DPFSR", "sun80")}

# What a reader of Table 1's reported rows should know of them.
REMARKS = (
    "C2-Matching's row in the paper is its model with all losses, between the -rec rows of others.",
    "† equals TTSR's figures in both digits, probably a copying error.",
    "SSEN's figures are of Shim et al. (CVPR 2020), not of the work that the paper cites for them.",
    "Column `protocol` of the CSV says what is known of the references and the border of each row. Figures of "
    "different protocols do not compare: on CUFED5 TTSR's network has 27.09 dB with five references and 26.99 dB with "
    "the most similar one, both by its authors.",
)

# Method: parameters in millions, side of the search kernel, shape of the correlation while training (160 px).
TABLE2 = {"TTSR": (6.73, 3, "1600x1600"), "DPFSR": (6.91, 3, "1600x1600"), "Extracter": (9.31, 6, "800x800")}

# Kernel and set: PSNR (dB) and SSIM, or None for OFM, out of memory on one 24 GB GPU.
TABLE3: dict[tuple[int, str], tuple[float, float] | None] = {
    (3, "sun80"): None,
    (3, "urban100"): None,
    (6, "sun80"): (30.02, 0.816),
    (6, "urban100"): (26.04, 0.785),
    (12, "sun80"): (29.98, 0.814),
    (12, "urban100"): (25.74, 0.781),
}
