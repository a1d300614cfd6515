"""The networks that the review of the field compares, with their papers.

Review: Deep learning-based medical ultrasound image and video segmentation methods: overview, frontiers, and
challenges, Sensors 2025, 25(8):2361, doi:10.3390/s25082361. Published figures are not repeated here: a report
has what it measured.
"""

REVIEWED = {
    "fcn": ("FCN", "Long et al. 2015, doi:10.1109/CVPR.2015.7298965"),
    "segnet": ("SegNet", "Badrinarayanan et al. 2017, doi:10.1109/TPAMI.2016.2644615"),
    "unet": ("U-Net", "Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28"),
    "unet++": ("U-Net++", "Zhou et al. 2018, doi:10.1007/978-3-030-00889-5_1"),
    "attention-unet": ("Attention U-Net", "Oktay et al. 2018, arXiv:1804.03999"),
    "deeplabv3plus": ("DeepLabV3+", "Chen et al. 2018, doi:10.1007/978-3-030-01234-2_49"),
    "pranet": ("PraNet", "Fan et al. 2020, doi:10.1007/978-3-030-59725-2_26"),
    "rfnet": ("RF-Net", "Wang et al. 2021, MICCAI, 471-481"),
    "transresunet": ("TransResU-Net", "Tomar et al. 2022, arXiv:2206.08985"),
}
"""Name and paper of each network, by its name in recipes."""
