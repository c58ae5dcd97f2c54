"""Words around an answer in many languages: what announces it ("the answer is"), and a confidence beside it.

The patterns are meant for `re.IGNORECASE`. Every repeat in them is bounded, so that a search takes linear time.
"""

from __future__ import annotations

import re

ANSWER = (
    r"(?:(?<![^\W_])(?:answers?|ans\.?|solution|result|antwort|lösung|ergebnis|réponse|résultat|respuesta|resultado|resposta"
    r"|risposta|soluzione|risultato|ответ|відповідь|antwoord|odpowiedź|svar|cevap|yanıt|jawaban(?:nya)?|đáp án|kết quả"
    r"|απάντηση|الإجابة|الجواب|उत्तर|คำตอบ|תשובה)(?![^\W\d_])|答案|答え|解答|回答|正解|정답|답)"
)
"""A word for "answer"."""

_IS_WORDS = (
    r"(?:is|are|was|be|equals?|ist|lautet|beträgt|est|es|é|è|jest|är|er|adalah|là|это|είναι|هو|هي|है|คือ)(?![^\W\d_])"
)
IS = (
    # "answer to the question is": up to six words, then a verb.
    rf"(?:(?:[^\S\n]{{1,3}}[^\W_]{{1,20}}){{0,6}}?[^\S\n]{{1,3}}{_IS_WORDS}"
    # "answer (in cm):", "**Answer:**", "answer = ", "answer — "
    r"|(?:[^\S\n]{1,3}[^\W_]{1,20}){0,4}?[\s*_`)\"']{0,4}(?:[:=：→⇒]|->|[^\S\n][-–—](?=[^\S\n]))"
    # Scripts without spaces: 答案是, 答えは, 정답은.
    r"|[^\W\d_a-z]{0,4}?(?:是|为|為|は|은|는|이|选|選))"
)
"""What stands between that word and the answer."""

_SURE = (
    r"(?:confiden(?:t|ce)|sure|certain(?:ty)?|sicher(?:heit)?|konfidenz|confiance|sûre?|certitude|confianza|segur[oa]"
    r"|confiança|fiducia|certezza|sicur[oa]|уверен(?:ность|а)?|tin cậy|chắc chắn|置信|确信|把握|確信|自信|확신|신뢰)"
)
_CONFIDENCE = re.compile(
    # "Confidence: 90%", "confidence in this answer is 8/10", 置信度：90%
    r"(?:\bconfidence(?! interval)|\bcertainty|\bkonfidenz|\bsicherheit|\bconfiance|\bcertitude|\bconfianza|\bconfiança"
    r"|\bfiducia|\bуверенность|độ tin cậy|置信度?|确信度|確信度|自信度|확신도|신뢰도)"
    r"(?:[^\S\n]{1,2}[^\W\d_]{1,12}){0,5}[\W_]{0,6}\d{1,3}(?:[.,]\d{1,4})?\s?(?:%|/\s?\d{1,3}|percent|out of \d{1,3})?"
    # "95% confident", "90 percent sure"
    rf"|\b\d{{1,3}}(?:[.,]\d{{1,4}})?\s?(?:%|percent|prozent|pour cent|por ciento)\s?(?:de\s)?{_SURE}",
    re.IGNORECASE,
)


def without_confidence(text: str) -> str:
    """Return a text without its remarks on how sure the answer is.

    Example:
        >>> without_confidence("42 (95% confident)"), without_confidence("B. Confidence: 0.9")
        ('42 ()', 'B. ')
    """
    return _CONFIDENCE.sub("", text)
