"""Random content for made-up log lines: words, numbers, versions, paths, times.

Everything is drawn from a seeded `random.Random`, so the same seed writes the same text.
Nothing here is read from a file: the words are either listed below or made of letters.
"""

from __future__ import annotations

from random import Random

WORDS = (
    "access account action adapter address agent alert archive array atlas backup balance bank "
    "basic batch beacon binary block board boot border branch bridge broker browser buffer build "
    "bundle cable cache calendar call camera candidate capture carrier catalog center chain change "
    "channel chart check child circle class client clock cloud cluster code column command commit "
    "common compare config connection console container content context control copy core count "
    "counter cover create current cursor cycle daemon data date debug decode default delay delete "
    "depth detail device digest direct disk display document domain door draft driver drop dump "
    "east edge editor element empty enable encode end engine entry error event example exit export "
    "factory failure feature field file filter final find finish fix flag flow folder font force "
    "format forward frame free front full function garden gate general glass global grant graph "
    "green grid group guard guest handle harbor hash header health heap hidden history home hook "
    "host hour image import index info inner input insert install internal invalid island item job "
    "join journal kernel key label lake language large last layer leaf legacy length level library "
    "limit line link list load local lock log long lookup loop machine mail main manager map "
    "market mask match media member memory menu merge message meter method middle minor mirror "
    "missing mobile mode model module monitor mount move name native network new next night node "
    "normal note notice number object offset old open option orange order origin output owner "
    "package page panel paper parent parse part patch path pattern pause peer period phase pipe "
    "plan plate player plugin point policy pool port power prefix preview print process product "
    "profile program project proxy public pump purge push query queue quick quota random range "
    "rate reader ready record recover redirect refresh region register release remote remove "
    "render repair replay reply report request reserve reset resource restart result retry return "
    "review ring river role root route row rule runner runtime sample scale scan schedule schema "
    "scope screen script search second section secure segment select sender sensor server service "
    "session setting shadow share shell shift signal silver simple single size skip sleep slot "
    "small socket source space spider split stack stage standard start state static status step "
    "stone stop storage store stream string style summary support surface switch symbol sync "
    "system table tag target task temp test text thread ticket timeout timer token tool topic "
    "tower trace track train transfer tree trigger tunnel type unit unknown update upload usage "
    "user valid value vector vendor version video view virtual visit volume wait watch water wave "
    "web west window winter wire word work worker world write yellow zero zone"
).split()
SMALL = "a an the to of in on for by with from at is was not no has and or be can as it".split()
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
DAYS = "Mon Tue Wed Thu Fri Sat Sun".split()
_FOREIGN = "äöüßéèêçñøåłžšабвгдежзикмнопрстуωλπ日本語中文字"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ONSETS = "b br c ch cl d dr f fl g gr h j k l m n p pl qu r s sh sl st t th tr v w x y z".split()
_VOWELS = "a e i o u ai ea io ou y ee".split()
_CODAS = " n r s t l m ck nd st x th ng sh p d".split(" ")


def made_up(rng: Random) -> str:
    """A word that no dictionary holds, of one to three syllables, or plain letters."""
    draw = rng.random()
    if draw < 0.25:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 8)))
    if draw < 0.26:
        return "".join(rng.choice(LETTERS + _FOREIGN) for _ in range(rng.randint(2, 6)))
    syllables = range(rng.choice((1, 2, 2, 3)))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in syllables)


def word(rng: Random) -> str:
    """A lower-case word, listed or made up."""
    return rng.choice(WORDS) if rng.random() < 0.55 else made_up(rng)


def cased(rng: Random) -> str:
    """A word in lower case, Title case, camelCase or UPPER case."""
    text = word(rng)
    style = rng.random()
    if style < 0.5:
        return text
    if style < 0.75:
        return text.capitalize()
    return text + word(rng).capitalize() if style < 0.9 else text.upper()


def identifier(rng: Random, joins: str = "-_.") -> str:
    """One to four words joined by a sign, now and then with digits."""
    sign = rng.choice(joins)
    parts = [word(rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    if rng.random() < 0.25:
        parts[-1] += digits(rng, 1, 3)
    return sign.join(parts)


def digits(rng: Random, least: int, most: int) -> str:
    """A number of `least` to `most` digits, without a leading zero."""
    length = rng.randint(least, most)
    return str(rng.randint(10 ** (length - 1) if length > 1 else 0, 10**length - 1))


def hexadecimal(rng: Random, length: int) -> str:
    """`length` lower-case hexadecimal digits."""
    return "".join(rng.choice("0123456789abcdef") for _ in range(length))


def uuid(rng: Random) -> str:
    """A UUID in its usual writing."""
    return "-".join(hexadecimal(rng, length) for length in (8, 4, 4, 4, 12))


def dotted(rng: Random) -> str:
    """A version such as `3.11`, `2.0.1rc2` or `1.2.3.4`."""
    text = ".".join(digits(rng, 1, rng.choice((1, 1, 2, 3))) for _ in range(rng.randint(2, 4)))
    tail = rng.choice(("", "", "", "", f"rc{rng.randint(1, 9)}", f"-rc{rng.randint(1, 9)}"))
    return text + tail


def path(rng: Random) -> str:
    """An absolute file path of one to six parts."""
    roots = ("usr", "var", "etc", "opt", "srv", "home", "lib", "run", "data", word(rng))
    parts = [rng.choice(roots)]
    parts += [identifier(rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
    ending = rng.choice(("", "", "", ".log", ".py", ".conf", ".txt", ".so", ".1.gz", ".json"))
    return "/" + "/".join(parts) + ending


def url_path(rng: Random) -> str:
    """The path of a URL, with a query now and then."""
    if rng.random() < 0.1:
        return "/"
    parts = [rng.choice((identifier(rng), digits(rng, 1, 6))) for _ in range(rng.randint(1, 4))]
    text = "/" + "/".join(parts)
    text += rng.choice(("", "", "", "/", ".html", ".css", ".js", ".png", ".php", ".txt"))
    return text + query(rng) if rng.random() < 0.3 else text


def query(rng: Random) -> str:
    """The query of a URL with one to three pairs."""
    pairs = []
    for _ in range(rng.randint(1, 3)):
        value = rng.choice((digits(rng, 1, 5), word(rng), f"{word(rng)}%20{word(rng)}"))
        pairs.append(f"{identifier(rng, '_-')}={value}")
    return "?" + "&".join(pairs)


def address(rng: Random) -> str:
    """An IPv4 address, or an IPv6 one now and then."""
    if rng.random() < 0.12:
        groups = [hexadecimal(rng, rng.randint(1, 4)) for _ in range(rng.randint(2, 4))]
        return rng.choice(("::1", ":".join(groups) + "::" + digits(rng, 1, 3)))
    if rng.random() < 0.2:
        return f"127.0.0.{rng.choice((1, 1, 1, rng.randint(1, 254)))}"
    return ".".join(str(rng.randint(0, 255)) for _ in range(4))


def host(rng: Random) -> str:
    """A host name, bare or dotted."""
    name = rng.choice((word(rng), identifier(rng, "-"), word(rng) + digits(rng, 1, 2)))
    return f"{name}.{word(rng)}.{word(rng)}" if rng.random() < 0.2 else name


def clock(rng: Random) -> str:
    """A time of day, `hh:mm:ss`."""
    return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"


def day(rng: Random) -> str:
    """A date, `yyyy-mm-dd`."""
    return f"{rng.randint(1998, 2039)}-{rng.randint(1, 12):02}-{rng.randint(1, 31):02}"


def fraction(rng: Random, length: int = 3) -> str:
    """`length` random digits, for parts of a second."""
    return "".join(rng.choice("0123456789") for _ in range(length))


def zone(rng: Random) -> str:
    """An offset from UTC as `+hh:mm`."""
    return rng.choice(("+00:00", f"{rng.choice('+-')}{rng.randint(0, 12):02}:{rng.choice(('00', '30'))}"))
