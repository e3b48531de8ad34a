"""Units of measurement: what a text such as "square inches" or "km/h" measures, and in what size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

# name and its other names = dimension, size in the dimension's first unit
_TABLE = """
m meter metre = L 1
km kilometer kilometre = L 1000
dm decimeter decimetre = L 1/10
cm centimeter centimetre = L 1/100
mm millimeter millimetre = L 1/1000
nm nanometer nanometre = L 1/1000000000
mi mile = L 1609344/1000
yd yard = L 9144/10000
ft foot feet = L 3048/10000
in inch inche = L 254/10000
pc parsec = parsec 1
au = au 1
s sec second = T 1
ms millisecond = T 1/1000
min minute = T 60
h hr hour = T 3600
day = T 86400
week = T 604800
month mo = month 1
yr year = year 1
g gram gm gramme = M 1
kg kilogram = M 1000
mg milligram = M 1/1000
ton tonne = M 1000000
lb pound = pound 1
oz ounce = ounce 1
l liter litre = L3 1/1000
ml milliliter millilitre = L3 1/1000000
cc = L3 1/1000000
gal gallon = gallon 1
quart qt = gallon 1/4
pint pt = gallon 1/8
cup = gallon 1/16
acre = acre 1
hectare ha = L2 10000
dollar usd buck = money 1
cent = money 1/100
euro eur = euro 1
rupee rs = rupee 1
deg degree = angle 1
rad radian = radian 1
arcsec arcsecond = angle 1/3600
arcmin arcminute = angle 1/60
degc celsius = celsius 1
degf fahrenheit = fahrenheit 1
k kelvin = kelvin 1
hz hertz = T-1 1
n newton = M1L1T-2 1000
j joule = M1L2T-2 1000
w watt = M1L2T-3 1000
ev = ev 1
v volt = volt 1
a amp ampere = ampere 1
c coulomb = coulomb 1
ohm = ohm 1
pa pascal = M1L-1T-2 1000
atm = atm 1
mol mole = mol 1
cal calorie = cal 1
kcal = cal 1000
percent = percent 1
am = forenoon 1
pm = afternoon 1
"""
_COMPOUND = {"mph": "mile/hour", "kmph": "km/hour", "kph": "km/hour", "sqft": "ft^2"}
_SINGLE_LETTERS = "mgshlLNJWVKA"
_MULTIPLIERS = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
# Words that make a text after a number something else than its unit.
_NO_UNIT = re.compile(
    r"\b(?:and|or|if|where|when|not|but|then|so|is|are|than|to|for|from|with|because|since|maybe|"
    r"between|about|approximately|except|plus|minus|times|no|none|either|neither|both|mod|modulo|"
    r"one|two|three|four|five|six|seven|eight|nine|ten|zero|"
    r"half|halves|quarters?|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|"
    r"\w+teenths?|elevenths?|twel(?:f|v)ths?|\w+tieths?|\w*(?:hundred|thousand|million|billion)ths?|"
    r"over|squared|cubed|factorial|negative|least|most|false|wrong|incorrect|unless|doubled?|"
    r"until|through|hence|else|otherwise|let)\b",
    re.IGNORECASE,
)
_HALF_OF_DAY = re.compile(r"\b([ap])\.\s*m\b", re.IGNORECASE)
_FACTOR = re.compile(r"([A-Za-z]+)\s*(?:\^\s*\{?\s*(-?\d)\s*\}?)?")


@dataclass(frozen=True)
class Unit:
    """A known unit: powers of base dimensions, and how many of the base units it is."""

    dimensions: tuple[tuple[str, int], ...]
    size: Fraction


def _read_table() -> dict[str, tuple[dict[str, int], Fraction]]:
    units = {}
    for line in _TABLE.strip().splitlines():
        names, _, meaning = line.partition(" = ")
        dimension, size = meaning.split()
        powers = dict.fromkeys([dimension], 1)
        if re.fullmatch(r"(?:[LMT]-?\d?)+", dimension):
            powers = {d: int(p or 1) for d, p in re.findall(r"([LMT])(-?\d)?", dimension)}
        for name in names.split():
            units[name] = (powers, Fraction(size))
    return units


_UNITS = _read_table()


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """The unit that a text names; None for words that are no known unit ("apples", "ways")."""
    text = _HALF_OF_DAY.sub(r"\1m", text)
    text = text.strip().strip(".").replace(".", " ").replace(r"\cdot", " ").replace("*", " ")
    dimensions: dict[str, int] = {}
    size = Fraction(1)
    for i, part in enumerate(re.split(r"/|\bper\b", text)):
        sign, power = (1 if i == 0 else -1), 1
        if i and not part.strip():
            return None
        for word, exponent in _FACTOR.findall(part):
            if word.lower() in ("square", "sq", "cubic", "cu"):
                power = 2 if word.lower().startswith("sq") else 3
                continue
            if word.lower() in _COMPOUND:
                inner = parse_unit(_COMPOUND[word.lower()])
                for name, value in inner.dimensions:
                    dimensions[name] = dimensions.get(name, 0) + sign * value
                size *= inner.size**sign
                continue
            known = _known(word)
            if known is None:
                return None
            total = sign * power * int(exponent or 1)
            for name, value in known[0].items():
                dimensions[name] = dimensions.get(name, 0) + total * value
            size *= known[1] ** total
            power = 1
        if re.sub(_FACTOR, "", part).strip(" {}^()"):
            return None
    dimensions = {name: value for name, value in dimensions.items() if value}
    return Unit(tuple(sorted(dimensions.items())), size) if dimensions else None


def _known(word: str) -> tuple[dict[str, int], Fraction] | None:
    name = word.lower()
    if name in _UNITS:
        return _UNITS[name]
    for ending in ("es", "s"):
        if len(name) > 3 and name.endswith(ending) and name[: -len(ending)] in _UNITS:
            return _UNITS[name[: -len(ending)]]
    return _UNITS.get(name.rstrip("s")) if len(name) == 3 and name.endswith("s") else None


def ratio(answer: Unit | None, gold: Unit | None) -> Fraction | None:
    """What the answer's number is multiplied by to be in the gold's unit; None: incompatible.

    A unit that is missing, or unknown, is taken to be the other's.
    """
    if answer is None or gold is None:
        return Fraction(1)
    if answer.dimensions == gold.dimensions:
        return answer.size / gold.size
    degrees = {(("angle", 1),), (("celsius", 1),), (("fahrenheit", 1),)}
    bare_degree = Unit((("angle", 1),), Fraction(1))
    if bare_degree in (answer, gold) and {answer.dimensions, gold.dimensions} <= degrees:
        return Fraction(1)
    return None


def multiplier(word: str) -> int | None:
    """1000000 for "million"."""
    return _MULTIPLIERS.get(word.lower())


def may_be_unit(text: str) -> bool:
    """Whether words after a number can name what is counted: few, and none that reasons."""
    words = re.findall(r"[A-Za-z]+", text)
    return (
        0 < len(words) <= 5
        and (any(len(word) > 1 for word in words) or parse_unit(text) is not None)
        and len(text) <= 60
        and not re.search(r"[=<>\\\d]", re.sub(r"\^\s*\{?-?\d\}?|\\cdot", "", text))
        and not _NO_UNIT.search(text)
    )


def is_plain_unit(text: str) -> bool:
    """Whether letters without a text wrapper, after a number and a space, are a known unit."""
    if len(text) == 1:
        return text in _SINGLE_LETTERS
    return parse_unit(text) is not None
