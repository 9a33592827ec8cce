"""What somebody types for a passphrase, where none can be given, is repeated nowhere: terminals and logs are kept."""

import pytest

from flock_p2p.cli import build_parser, main
from flock_peers.keystore import MIN_PASSPHRASE

SECRET = "correct-horse"


@pytest.mark.parametrize(
    "line",
    [
        "join --passphrase {}",
        "join --passphrase={}",
        "join --home x --passphrase {} --port 0",
        "keys lock --passphrase {}",
        "keys --passphrase {} lock",
        "keys lock --passphrase-fd {}",
        "protection export --password {}",
        "keys --password {} lock",
        "join --password {}",
    ],
)
def test_a_secret_on_the_command_line_is_not_repeated(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([word.format(SECRET) for word in line.split()])
    error = capsys.readouterr().err
    assert done.value.code == 2 and SECRET not in error and "--pass" in error


@pytest.mark.parametrize("digits", ["31415926", "1234567890", "9" * 21, "9" * 5_000])
def test_a_secret_of_digits_alone_is_taken_for_no_descriptor(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(digits) >= MIN_PASSPHRASE
    with pytest.raises(SystemExit) as done:
        main(["keys", "lock", "--passphrase-fd", digits])
    error = capsys.readouterr().err
    assert done.value.code == 2 and digits not in error and "the number of a file descriptor is needed" in error


def test_a_secret_of_several_words_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["join"], ["keys", "lock"], ["keys"]):
        for given in (["--passphrase", "two words"], ["--passphrase=two words"], ["--passphrase-fd=two words"]):
            with pytest.raises(SystemExit):
                main([*command, *given])
            assert "two words" not in capsys.readouterr().err, (command, given)


@pytest.mark.parametrize("secret", ["-correct-horse", "--correct-horse", "-correct horse", "-c"])
def test_a_secret_that_begins_with_a_dash_is_not_repeated_after_an_unknown_option(
    secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["join"], ["keys", "lock"], ["keys"]):
        with pytest.raises(SystemExit):
            main([*command, "--passphrase", secret, "--hom"])
        error = capsys.readouterr().err
        assert error.endswith("unrecognized arguments: --passphrase --hom; did you mean --passphrase-fd and --home?\n")


def test_a_secret_of_one_dash_and_without_an_option_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["join"], ["keys", "lock"], ["keys"], []):
        with pytest.raises(SystemExit):
            main([*command, "-correct-horse"])
        assert "horse" not in capsys.readouterr().err, command
        with pytest.raises(SystemExit):
            main([*command, "-help"])
        assert "several letters; did you mean --help?" in capsys.readouterr().err, command
        with pytest.raises(SystemExit):
            main([*command, "-x"])
        assert "unrecognized arguments: -x" in capsys.readouterr().err, command


def test_a_bare_word_is_not_repeated_where_a_passphrase_can_be_meant_and_is_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in (f"keys lock {SECRET}", f"keys lock -- {SECRET}", f"join {SECRET}", f"init x {SECRET}"):
        with pytest.raises(SystemExit) as done:
            main(line.split())
        error = capsys.readouterr().err
        assert done.value.code == 2 and SECRET not in error and "a passphrase is asked for" in error, line
    with pytest.raises(SystemExit):
        main(["status", SECRET])
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {SECRET}\n")


def test_a_shortened_option_is_no_option_and_the_whole_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for line, meant in (
        ("join --passphrase 7", "--passphrase; did you mean --passphrase-fd?"),
        ("status --jso", "--jso; did you mean --json?"),
        ("--versio", "--versio; did you mean --version?"),
    ):
        with pytest.raises(SystemExit):
            build_parser().parse_args(line.split())
        assert capsys.readouterr().err.endswith(f"unrecognized arguments: {meant}\n")


def test_what_has_a_space_and_a_negative_number_are_values_and_no_options() -> None:
    found = build_parser().parse_args(["task", "create", "--pot", "1", "--name", "-- our logs"])
    assert found.name == "-- our logs"
    assert build_parser().parse_args(["join", "--http", "-1"]).http == -1
