"""A question and its answer as one plain sentence: "Who won?" + "Denver" gives "Denver won."

Pure; English, by patterns only. Where no pattern is sure, there is no sentence.
Invariant: the sentence holds the answer's words as they are.
"""

import re

from recipes.heads.words import BE, HAVE, MODALS, PARTICIPLES, VERBS, past

_BE, _HAVE, _MODAL = "|".join(BE), "|".join(HAVE), "|".join(MODALS)
_AUX = rf"{_BE}|{_HAVE}|{_MODAL}"
_PREPOSITION = "in|on|at|to|from|for|by|with|of|under|into|during|through|against|about|over|after|near|between"
_NOT_SUBJECT = r"(?:the|a|an|his|her|its|their|this|these|those|some|many|most|he|she|it|they|there|[A-Z]\w*|\d+)\b"

_DID = re.compile(
    rf"^(?:(?P<pre>{_PREPOSITION}) )?(?P<wh>what|which|who|whom|when|where|how many|how much|how long|how often)"
    r"(?P<noun>(?: (?!did|does|do)[\w'’-]+){0,5}?) (?P<do>did|does|do) (?P<rest>.+)$",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    rf"^(?:who|what|which|how many|how much)(?P<noun>(?: [\w'’-]+){{0,6}}?) (?P<verb>(?:{_AUX})\b|[\w-]+ed\b|"
    r"[\w-]+s\b|"
    r"won|lost|became|began|built|led|held|made|took|wrote|gave|sold|found|ran|left|came|caught|fought|chose|sang) "
    r"(?P<rest>.+)$",
    re.IGNORECASE,
)
_INVERTED = re.compile(
    rf"^(?:(?P<pre>{_PREPOSITION}) )?(?P<wh>what|which|who|whom|when|where|how many|how much)"
    rf"(?P<noun>(?: [\w'’-]+){{0,5}}?) (?P<aux>{_AUX}) (?P<rest>.+)$",
    re.IGNORECASE,
)
_LATE = re.compile(r"^(?P<head>.{8,}?)\b(?:what|which)(?P<noun>(?: [\w'’-]+){0,3})\??$", re.IGNORECASE)
_PARTICIPLE = (
    rf"(?:\w+ed|\w+ing|{'|'.join(sorted(PARTICIPLES))}|responsible|able|known|located|used|in|on|at|to|from|for|of|not)"
)


def declared(question: str, answer: str) -> str | None:
    """The sentence that answers the question so, or None."""
    plain = question.strip().rstrip("?").strip()
    answer = answer.strip().rstrip(".,;")
    if not plain or not answer or len(plain.split()) < 3:
        return None
    for pattern in (_with_do, _be_subject, _subject, _inverted, _late):
        found = pattern(plain, answer)
        if found:
            return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s{2,}", " ", found[0].upper() + found[1:])).rstrip(" ,.") + "."
    return None


def _with_do(question: str, answer: str) -> str | None:
    """'When did S verb O' as 'S verbed O in A'."""
    found = _DID.match(question)
    if not found:
        return None
    wh, noun, rest = found["wh"].lower(), found["noun"].strip(), found["rest"].split()
    clause = _clause(found["do"].lower(), rest)
    if clause is None:
        return None
    if wh in ("how long", "how often"):
        return f"{clause} {answer}"
    if wh.startswith("how"):
        return _after_verb(clause, rest, answer, noun)
    if wh in ("when", "where") or noun in (
        "year",
        "month",
        "century",
        "decade",
        "day",
        "date",
        "city",
        "country",
        "state",
    ):
        return f"{clause} {_placed(found['pre'], wh, noun, answer)}"
    if found["pre"]:
        return f"{clause} {found['pre'].lower()} {answer}"
    return _after_verb(clause, rest, answer, "")


def _clause(do: str, rest: list[str]) -> str | None:
    """Subject and verb, the verb in the form that `do` stood for; None where the verb cannot be found."""
    for place in range(1, min(len(rest), 9)):
        word = rest[place]
        if word.lower() in _PREPOSITION.split("|") or rest[place - 1].lower() in (
            *_PREPOSITION.split("|"),
            "the",
            "a",
            "an",
        ):
            continue
        if not word.islower() or not re.fullmatch(r"[a-z]+", word) or word in ("and", "or", "not", "the", "a", "an"):
            continue
        if word in VERBS:
            form = past(word) if do == "did" else (_third(word) if do == "does" else word)
            return " ".join((*rest[:place], form, *rest[place + 1 :]))
    return None


def _after_verb(clause: str, rest: list[str], answer: str, noun: str) -> str:
    """The object goes to the end where the question ends with its verb or preposition, else behind the verb."""
    words = clause.split()
    changed = next(
        (place for place, (one, other) in enumerate(zip(words, rest, strict=False)) if one != other), len(words) - 1
    )
    thing = f"{answer} {noun}".strip() if noun and noun.rsplit(maxsplit=1)[-1].lower() not in answer.lower() else answer
    if changed + 1 < len(words) and words[changed + 1].lower() not in (
        "in",
        "on",
        "at",
        "to",
        "from",
        "for",
        "by",
        "with",
        "during",
        "as",
    ):
        return f"{clause} {thing}"
    return " ".join((*words[: changed + 1], thing, *words[changed + 1 :]))


def _placed(preposition: str | None, wh: str, noun: str, answer: str) -> str:
    """The answer with the preposition that time or place asks for, unless it has one."""
    if re.match(rf"(?:{_PREPOSITION}|before|since|around|throughout)\b", answer, re.IGNORECASE):
        return (
            answer[0].lower() + answer[1:]
            if answer.split(maxsplit=1)[0] in ("In", "On", "At", "By", "From", "To")
            else answer
        )
    day = re.search(
        r"\b(?:January|February|March|April|June|July|August|September|October|November|December)\b.*\d", answer
    )
    if preposition:
        return f"{preposition.lower()} {answer}"
    return f"on {answer}" if day and len(answer.split()) in (2, 3) and wh == "when" else f"in {answer}"


def _be_subject(question: str, answer: str) -> str | None:
    """'What is the name of X' as 'The name of X is A'; 'Who was X' as 'X was A'."""
    found = re.match(
        rf"^(?:what|who) (?P<be>{_BE}) (?P<rest>(?:the|a|an|his|her|its|their|[A-Z]).+)$", question, re.IGNORECASE
    )
    if not found:
        return None
    rest = found["rest"]
    last = re.match(rf"^(?P<subject>.+?) (?P<end>called|named|{_PARTICIPLE}(?: (?:{_PREPOSITION}|as))?)$", rest)
    if last:
        return f"{last['subject']} {found['be']} {last['end']} {answer}"
    if re.match(r"^(?:the|his|her|its|their)\b", rest, re.IGNORECASE) or len(rest.split()) <= 4:
        return f"{rest} {found['be']} {answer}"
    return None


def _subject(question: str, answer: str) -> str | None:
    """'Who won the war' as 'A won the war'; 'How many people live here' as 'A people live here'."""
    found = _SUBJECT.match(question)
    if not found or re.match(r"(?:do|does|did)$", found["verb"], re.IGNORECASE):
        return None
    verb, rest, noun = found["verb"], found["rest"], found["noun"].strip()
    if re.fullmatch(_AUX, verb, re.IGNORECASE) and re.match(_NOT_SUBJECT, rest):
        return None
    if re.fullmatch(_MODAL, verb) and rest.split()[0] not in (*VERBS, "be", "not", "also"):
        return None
    if re.fullmatch(f"{_BE}|{_HAVE}", verb) and not re.match(
        rf"{_PARTICIPLE}\b|(?:also|often|usually|first|been|be)\b", rest
    ):
        return None
    if verb.endswith("s") and not re.fullmatch(_AUX, verb) and verb[:-1] not in VERBS:
        return None
    counted = question.lower().startswith(("how many", "how much")) and noun
    subject = f"{answer} {noun}" if counted and noun.split()[-1].lower() not in answer.lower() else answer
    return f"{subject} {verb} {rest}"


def _inverted(question: str, answer: str) -> str | None:
    """'When was S built' as 'S was built in A'; 'What is S used for' as 'S is used for A'."""
    found = _INVERTED.match(question)
    if not found:
        return None
    words, aux, wh, noun = found["rest"].split(), found["aux"], found["wh"].lower(), found["noun"].strip()
    for place in range(1, min(len(words), 9)):
        if re.fullmatch(rf"{_PARTICIPLE}|be|have", words[place]) and words[place] not in (
            "of",
            "in",
            "on",
            "at",
            "to",
            "from",
            "for",
        ):
            clause = " ".join((*words[:place], aux, *words[place:]))
            if wh in ("when", "where") or noun in (
                "year",
                "month",
                "century",
                "decade",
                "day",
                "date",
                "city",
                "country",
                "state",
            ):
                return f"{clause} {_placed(found['pre'], wh, noun, answer)}"
            return f"{clause} {found['pre'].lower()} {answer}" if found["pre"] else f"{clause} {answer}"
    if wh == "where" and len(words) <= 5:
        return f"{' '.join(words)} {aux} {_placed(None, wh, noun, answer)}"
    return None


def _late(question: str, answer: str) -> str | None:
    """'X was revamped by what agency' as 'X was revamped by A'."""
    found = _LATE.match(question)
    return f"{found['head']}{answer}" if found else None


def _third(verb: str) -> str:
    if verb == "have":
        return "has"
    if re.search(r"(?:s|sh|ch|x|o)$", verb):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"
