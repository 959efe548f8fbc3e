"""What VMZ published: a row for each checkpoint of its two pages, in their order."""

from typing import Final, NamedTuple

_VMZ = "https://github.com/facebookresearch/VMZ/blob/"
MODEL_ZOO_MD: Final = f"{_VMZ}4cc542d58c1c560571e1962e426858e00de28d2/c2/tutorials/model_zoo.md"
MODELS_MD: Final = f"{_VMZ}5d1b08e3c79da63fecce9f153b1720fc56d6b962/tutorials/models.md"
DROPBOX: Final = "https://www.dropbox.com/s/{}?dl=1"  # dl=1 returns the file, anything else a web page
RELEASE: Final = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"

# Data sets as they are spelt in names, and in full.
DATA_SETS: Final = {
    "kinetics": "Kinetics-400",
    "sports1m": "Sports-1M",
    "ig65m": "IG-65M",
    "audioset": "AudioSet",
    "imagenet": "ImageNet",
}


class Row(NamedTuple):
    """A checkpoint. Its name is ARCHITECTURE[_DEPTH]_FRAMES, the data sets in order, and `av`, `flow` or a year.

    `file` is at DROPBOX; None if the page has no link. top-1, top-5 and clip top-1 are on Kinetics-400 in percent.
    """

    name: str
    file: str | None
    top1: float | None = None
    top5: float | None = None
    clip_top1: float | None = None


# Checkpoints that ig65m-pytorch converted: row -> name, file in RELEASE, last digits of its ONNX file.
RELEASED: Final = {
    "r2plus1d_34_8_ig65m": (
        "r2plus1d_34_8_ig65m",
        "r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae.pth",
        "748ab053",
    ),
    "r2plus1d_34_8_ig65m_kinetics": (
        "r2plus1d_34_8_kinetics",
        "r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
        "625d61b3",
    ),
    "r2plus1d_34_32_ig65m": (
        "r2plus1d_34_32_ig65m",
        "r2plus1d_34_clip32_ig65m_from_scratch-449a7af9.pth",
        "e304d648",
    ),
    "r2plus1d_34_32_ig65m_kinetics": (
        "r2plus1d_34_32_kinetics",
        "r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
        "10f4c3bf",
    ),
}

MODEL_ZOO: Final = (
    Row("c3d_16_kinetics", "z6w799mqet65mkq/c3d_kinetics_from_scratch_f129282105.pkl", 66.6, 86.7),
    Row("c3d_16_sports1m", "s2ooup80wal8o5d/c3d_sports1m_from_scratch_f129642950.pkl"),
    Row("c3d_16_sports1m_kinetics", "jadubfxhh5hdyp5/c3d_ft_kinetics_from_sports1m_f131638306.pkl", 67.4, 87.2),
    Row("r2plus1d_34_8_ig65m", "6xwyu1az6oy4ts7/r2plus1d_34_clip8_ig65m_from_scratch_f79708462.pkl"),
    Row(
        "r2plus1d_34_8_ig65m_kinetics", "p81twy88kwrrcop/r2plus1d_34_clip8_ft_kinetics_from_ig65m_%20f128022400.pkl", 74.9, 91.8
    ),
    Row("r2plus1d_34_32_ig65m", "eimo232tqw8mwi9/r2plus1d_34_clip32_ig65m_from_scratch_f102649996.pkl"),
    Row(
        "r2plus1d_34_32_ig65m_kinetics",
        "z41ff7vs0bzf6b8/r2plus1d_34_clip32_ft_kinetics_from_ig65m_%20f106169681.pkl",
        80.0,
        94.2,
    ),
    Row("r2plus1d_152_32_kinetics", "9770y063u3z5bmb/r2plus1d_152_kinetics_from_scratch_f127858918.pkl", 77.3, 92.5),
    Row("r2plus1d_152_32_sports1m", "w5cdqeyqukuaqt7/r2plus1d_152_sports1m_from_scratch_f127111290.pkl"),
    Row(
        "r2plus1d_152_32_sports1m_kinetics", "twvcpe30rxuaf45/r2plus1d_152_ft_kinetics_from_sports1m_f128957437.pkl", 79.5, 94.0
    ),
    Row("r2plus1d_152_32_ig65m", "oqdg176p7nqc84v/r2plus1d_152_ig65m_from_scratch_f106380637.pkl"),
    Row("r2plus1d_152_32_ig65m_kinetics", "tmxuae8ubo5gipy/r2plus1d_152_ft_kinetics_from_ig65m_f107107466.pkl", 81.6, 95.3),
    Row("ir_csn_50_32_kinetics", None),
    Row("ir_csn_50_32_ig65m", "1cqzndm1zobxvhh/irCSN_50_pretrained_ig65m_f231921860.pkl"),
    Row("ir_csn_50_32_ig65m_kinetics", "b6o2mvoqrvupatt/irCSN_50_ft_kinetics_from_ig65m_f233743920.pkl"),
    Row("ir_csn_152_32_kinetics", "46gcm7up60ssx5c/irCSN_152_kinetics_from_scratch_f98268019.pkl", 76.5, 92.1),
    Row("ir_csn_152_32_sports1m", "woh99y2hll1mlqv/irCSN_152_sports1m_from_scratch_f99918785.pkl"),
    Row("ir_csn_152_32_sports1m_kinetics", "zuoj1aqouh6bo6k/irCSN_152_ft_kinetics_from_sports1m_f101599884.pkl", 78.2, 93.0),
    Row("ir_csn_152_32_ig65m", "r0kppq7ox6c57no/irCSN_152_ig65m_from_scratch_f125286141.pkl"),
    Row("ir_csn_152_32_ig65m_kinetics", "gmd8r87l3wmkn3h/irCSN_152_ft_kinetics_from_ig65m_f126851907.pkl", 82.6, 95.3),
    Row("ip_csn_152_32_kinetics", "3fihu6ti60047mu/ipCSN_152_kinetics_from_scratch_f129594342.pkl", 77.8, 92.8),
    Row("ip_csn_152_32_sports1m", "70di7o7qz6gjq6x/ipCSN_152_sports1m_from_scratch_f111018543.pkl"),
    Row("ip_csn_152_32_sports1m_kinetics", "ir7cr0hda36knux/ipCSN_152_ft_kinetics_from_sports1m_f111279053.pkl", 78.8, 93.5),
    Row("ip_csn_152_32_ig65m", "1ryvx8k7kzs8od6/ipCSN_152_ig65m_from_scratch_f130601052.pkl"),
    Row("ip_csn_152_32_ig65m_kinetics", "zpp3p0vn2i7bibl/ipCSN_152_ft_kinetics_from_ig65m_f133090949.pkl", 82.5, 95.3),
    Row("ip_csn_152_32_kinetics_av", "13d5jgq65nd5sn6/g_b_ip_csn_152_kinetics.pkl", 79.1, 93.9),
    Row("ip_csn_152_32_sports1m_audioset_av", "u4dgz0z09aaim9x/sports1m_audioset_ip_csn_152.pkl"),
    Row(
        "ip_csn_152_32_sports1m_audioset_kinetics_av",
        "ubcy09t8ghes9m7/g_b_ip_csn_152_sports_audioset_ft_kinetics.pkl",
        80.4,
        94.8,
    ),
    Row("ip_csn_152_32_ig65m_audioset_av", "bgxf62o9yzx7zfy/ig_audioset_ip_csn_152.pkl"),
    Row("ip_csn_152_32_ig65m_audioset_kinetics_av", "9ja3rlmr568qemt/g_b_ip_csn_152_ig_audioset_ft_kinetics.pkl", 83.3, 96.0),
    Row("r2plus1d_101_16_audioset_av", "7e36vogqyea152p/g_b_r2_plus_1d_101_audioset.pkl"),
    Row("ip_csn_152_32_ig65m_imagenet_av", "63oy0vn4gkyc3xq/ig_imagenet_ip_csn_152.pkl"),
)


MODELS: Final = (
    Row("r2plus1d_18_8_kinetics", "wzgx4d80mrh7pnf/r2.5d_d18_l8.pkl", 65.3, 85.2, 53.2),
    Row("r3d_18_8_kinetics", "n3ax2591imcy9ly/r3d_d18_l8.pkl", 62.3, 83.4, 49.8),
    Row("r2d_18_8_kinetics", "ju4fah9dksn08s1/r2d_d18_l8.pkl", 60.0, 81.2, 47.0),
    Row("r2df_18_8_kinetics", "4jexszps3564za3/r2df_d18_l8.pkl", 60.0, 81.8, 48.5),
    Row("mc2_18_8_kinetics", "lkmhyjok8odtv8e/mc2_d18_l8.pkl", 63.0, 83.8, 50.6),
    Row("mc3_18_8_kinetics", "3jxzhc3kduyrpik/mc3_d18_l8.pkl", 63.3, 84.2, 51.1),
    Row("mc4_18_8_kinetics", "vx2xee36et823gs/mc4_d18_l8.pkl", 63.0, 84.2, 50.9),
    Row("mc5_18_8_kinetics", "z6fxv6jr30i2lwz/mc5_d18_l8.pkl", 62.9, 84.2, 50.7),
    Row("rmc2_18_8_kinetics", "vnjpzq7li2b7tk2/rmc2_d18_l8.pkl", 62.7, 83.9, 50.2),
    Row("rmc3_18_8_kinetics", "1vwjomlc45ox6u1/rmc3_d18_l8.pkl", 62.8, 83.7, 50.2),
    Row("rmc4_18_8_kinetics", "zots41ng2xs2ezu/rmc4_d18_l8.pkl", 62.8, 83.3, 50.3),
    Row("rmc5_18_8_kinetics", "3e56jjx6x1qot4x/rmc5_d18_l8.pkl", 61.6, 83.1, 49.7),
    Row("r2plus1d_18_16_kinetics", "94d2ruqn6tp7xno/r2.5d_d18_l16.pkl", 68.5, 87.5, 57.3),
    Row("r3d_18_16_kinetics", "8tqp8uhjmedflu1/r3d_d18_l16.pkl", 64.7, 85.0, 52.9),
    Row("r2d_18_16_kinetics", "hyw8ltzvhadxgia/r2d_d18_l16.pkl", 59.4, 81.3, 47.5),
    Row("r2df_18_16_kinetics", "4yy0tdfebdy0ptr/r2df_d18_l16.pkl", 60.9, 81.9, 50.7),
    Row("mc2_18_16_kinetics", "xmtqk2w3p60yly0/mc2_d18_l16.pkl", 64.8, 85.1, 53.6),
    Row("mc3_18_16_kinetics", "rpgbzjewagjeu2f/mc3_d18_l16.pkl", 65.2, 85.8, 54.1),
    Row("mc4_18_16_kinetics", "lrjwye0ldsgi2p2/mc4_d18_l16.pkl", 65.6, 85.6, 54.3),
    Row("mc5_18_16_kinetics", "3qp62d3159rzwsj/mc5_d18_l16.pkl", 65.6, 85.5, 54.1),
    Row("rmc2_18_16_kinetics", "70k3p0xz6rjcdtb/rmc2_d18_l16.pkl", 65.4, 85.5, 53.5),
    Row("rmc3_18_16_kinetics", "n8eulubwh6l3o0b/rmc3_d18_l16.pkl", 65.5, 85.7, 53.6),
    Row("rmc4_18_16_kinetics", "di3wwadbapc61rn/rmc4_d18_l16.pkl", 65.6, 85.3, 53.9),
    Row("rmc5_18_16_kinetics", "lb5jaji177hid7p/rmc5_d18_l16.pkl", 63.5, 84.2, 52.5),
    Row("c3d_16_kinetics_2018", "hbzn4ykva64avxu/c3d_l16.pkl", 63.4, 84.6, 52.3),
    Row("r2plus1d_34_32_kinetics_2018", "y6c6jf7myv2w6iq/r2.5d_d34_l32.pkl", 72.4, 90.6, 60.6),
    Row(
        "r2plus1d_34_32_sports1m_kinetics_flow", "30zj1t9xte5vy64/r2.5d_d34_l32_ft_sports1m_optical_flow.pkl", 68.2, 88.0, 55.9
    ),
    Row("r2plus1d_34_32_sports1m_kinetics", "odd9smqn2t54run/r2.5d_d34_l32_ft_sports1m.pkl", 74.2, 92.1, 63.9),
)
