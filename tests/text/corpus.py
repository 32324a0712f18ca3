"""Makes the text that test vocabularies are trained on, and the strings that tokenisers must agree on."""

from __future__ import annotations

import random
import unicodedata

#: One row per language; some characters of each stay out of the vocabulary on purpose.
WORDS = {
    "English": "a the red ball bounces on blue surface green cube spins slowly sunset over ocean 35mm f/2.8",
    "French": "café naïve œuvre déjà vu garçon Noël où l'été s'éveille crème brûlée",
    "Vietnamese": "một quả bóng màu đỏ nảy trên mặt phẳng xanh",
    "Chinese": "红色 的 球 在 蓝色 表面 弹跳 一只 猫 在 雪地 里 奔跑 電影 質感",
    "Japanese": "赤い ボール が 青い 床 の 上 で はねる ﾊﾝｶｸ カタカナ",
    "Korean": "빨간 공이 파란 바닥에서 튄다",
    "Arabic": "كرة حمراء تقفز على سطح أزرق مُشَكَّل",
    "Hindi": "लाल गेंद नीली सतह पर उछलती है क्षत्रिय",
    "Hebrew": "כדור אדום קופץ על משטח כחול",
    "Thai": "ลูกบอลสีแดงเด้งบนพื้นผิวสีน้ำเงิน",
    "Greek": "μια κόκκινη μπάλα αναπηδά",
    "Russian": "красный мяч прыгает по синей поверхности",
}

#: Strings that have broken tokenisers: joiners, compatibility forms, controls, markup, bytes-like text.
ODD = (
    "",
    " ",
    "   \t \n ",
    "▁",
    "▁▁ a ▁b",
    "a" * 2000,
    "红" * 2000,
    "😀" * 500,
    "👩‍👩‍👧‍👦 👨🏽‍🚀 🏳️‍🌈 🇩🇪🇯🇵 ❤️ ☃︎ 1️⃣",
    "\u200b\u200c\u200d\u2060\ufeff",
    "a\u00adb a\u200bb a\u200db \u202eabc\u202c",
    "\x00a\x01b\x07\x1b[31m\x7f\x85\x9f",
    "line\nbreak\r\nand\ttab\x0b\x0c",
    "ﬁne ﬂow Ⅷ ① ㎏ ｆｕｌｌ ｗｉｄｔｈ ½ ² ™ ℌ ſ ẛ̣",
    "İstanbul ıI ß ẞ ŉ ǰ",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033da\u034f\u0334\u0319l\u030eg\u0322o\u035a",
    "<s> </s> <pad> <unk> <extra_id_0> <0x41> [PAD300]",
    "\U0001f9ff\U000e0067\U000e0062\U0010ffff\ufdd0\uffff\ue000",
    "\u0958\u0959 \u0e33\u0eb3 \u1100\u1161\u11a8 각 \u3131\u314f",
    "\u00a0non\u2003breaking\u3000spaces\u1680\u2028\u2029",
    "(((masterpiece:1.3))) {a|b} --ar 16:9 \\n %s %d $HOME `x`",
)


def sentences(count: int) -> list[str]:
    """Training text: words of one language or of all."""
    rng = random.Random(0)
    languages = [words.split() for words in WORDS.values()]
    mixed = [word for words in languages for word in words]
    return [
        " ".join(rng.choices(rng.choice([*languages, mixed]), k=rng.randint(3, 15))) for _ in range(count)
    ]


def strings() -> list[str]:
    """About 700 distinct strings: languages, both normal forms, emoji, controls, long ones."""
    rng = random.Random(1)
    plain = sentences(160)
    forms = [unicodedata.normalize(form, text) for text in plain for form in ("NFC", "NFD", "NFKC")]
    shouted = [text.upper() for text in plain[:60]]
    spaced = [
        text.replace(" ", rng.choice(["  ", "\t", "\u3000", "\u00a0", "\u200b"])) for text in plain[:60]
    ]
    emoji = [
        f"{text} {chr(rng.randint(0x1F300, 0x1FAFF))}\u200d{chr(rng.randint(0x1F300, 0x1FAFF))}"
        for text in plain
    ]
    long = [(" ".join(rng.sample(plain, len(plain))))[:2000] for _ in range(20)]
    return list(dict.fromkeys([*ODD, *forms, *shouted, *spaced, *emoji, *long, *_noise(rng)]))


def _noise(rng: random.Random) -> list[str]:
    """Characters from anywhere in Unicode, surrogates excepted."""
    ranges = ((0, 0x2FF), (0x300, 0xD7FF), (0xE000, 0x10FFFF))
    return [
        "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 60))) for _ in range(100)
    ]
