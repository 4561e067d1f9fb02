"""When ExaBGP is asked for a sign of life, and when its silence has lasted too long."""

from bgp.silence import ASK_SECONDS, SILENT_SECONDS, Silence, Verdict


def test_after_a_while_in_which_nothing_came_it_is_asked() -> None:
    silence = Silence()
    verdicts = [silence.tick(heard=0, unanswered=False) for _ in range(ASK_SECONDS)]

    assert verdicts == [Verdict.FINE] * (ASK_SECONDS - 1) + [Verdict.ASK]


def test_it_is_silent_when_it_owes_an_answer_and_nothing_came_for_long() -> None:
    silence = Silence()
    verdicts = [silence.tick(heard=0, unanswered=True) for _ in range(SILENT_SECONDS)]

    assert verdicts == [Verdict.FINE] * (SILENT_SECONDS - 1) + [Verdict.SILENT]
    assert silence.tick(heard=0, unanswered=True) is Verdict.SILENT, "until it speaks"
    assert silence.tick(heard=1, unanswered=True) is Verdict.FINE


def test_whatever_comes_is_a_sign_of_life_answer_or_not() -> None:
    silence = Silence()

    assert {silence.tick(heard=tick // 3, unanswered=True) for tick in range(10 * SILENT_SECONDS)} == {Verdict.FINE}


def test_silence_begins_when_something_is_unanswered_however_long_there_was_nothing_to_say() -> None:
    silence = Silence()
    for _ in range(10 * SILENT_SECONDS):
        silence.tick(heard=0, unanswered=False)

    assert silence.tick(heard=0, unanswered=True) is Verdict.FINE
