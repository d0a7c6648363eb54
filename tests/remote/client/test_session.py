"""Sessions: the tokens are those that the program would have had without a server."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from tests.remote.conftest import decoded_here, prompt

from remora.core.errors import BadValue, Refused, RemoraError, ServerLost, SessionLost
from remora.remote.client.placed import Placed
from remora.remote.client.reorder import reorder
from remora.remote.client.server import RemoteServer, connect
from remora.remote.client.session import RemoteSession
from remora.remote.messages import Reorder
from remora.remote.server.house import Quotas
from remora.remote.server.server import Server


def session(remote: RemoteServer, decoder: Placed) -> RemoteSession:
    return RemoteSession(remote, Placed(decoder.captured, decoder=True), deadline_s=30)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 40])
def test_tokens_are_those_of_the_model_here(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module, length: int
) -> None:
    with session(remote, decoder) as one:
        one.prefill(prompt(length))

        assert list(one.generate(20)) == decoded_here(language_model, prompt(length), 20)


def test_it_goes_on_where_it_was(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    ids = prompt(10)
    with session(remote, decoder) as one:
        one.prefill(ids[:, :4])
        one.prefill(ids[:, 4:])
        first = [*one.generate(5), *one.generate(1), *one.generate(4)]
        more = prompt(6, seed=1)
        one.prefill(more)
        second = list(one.generate(5))

    assert first == decoded_here(language_model, ids, 10)
    whole = torch.cat([ids, torch.tensor([first]), more], dim=1)
    assert second == decoded_here(language_model, whole, 5)


def test_it_goes_back_and_on_from_there(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    here = decoded_here(language_model, prompt(5), 20)
    with session(remote, decoder) as one:
        one.prefill(prompt(5))
        first = list(one.generate(20))
        one.rewind(8)
        again = list(one.generate(17))
        one.rewind(3)
        one.prefill(prompt(5)[:, 3:])
        from_the_prompt = list(one.generate(4))

        with pytest.raises(BadValue, match="cannot go back to 10"):
            one.rewind(10)

    assert first == here
    assert again == here[3:]
    assert from_the_prompt == here[:4]


def test_it_ends_at_a_stop_token(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    here = decoded_here(language_model, prompt(5), 20)
    with session(remote, decoder) as one:
        one.prefill(prompt(5))
        tokens = list(one.generate(20, stop=[here[6]]))

    assert tokens == here[: here.index(here[6]) + 1]


def test_several_decode_together_and_each_as_if_alone(
    server: Server, decoder: Placed, language_model: torch.nn.Module
) -> None:
    lengths = [3, 17, 8, 30, 1]
    decoded: dict[int, list[int]] = {}

    def decode(length: int) -> None:
        with connect(server.address) as remote, session(remote, decoder) as one:
            one.prefill(prompt(length, seed=length))
            decoded[length] = list(one.generate(40 - length))

    threads = [threading.Thread(target=decode, args=(length,)) for length in lengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for length in lengths:
        here = decoded_here(language_model, prompt(length, seed=length), 40 - length)
        assert decoded[length] == here


def test_leaving_early_ends_the_decoding_and_the_session_goes_on(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    with session(remote, decoder) as one:
        one.prefill(prompt(5))
        taken = []
        for token in one.generate(200):
            taken.append(token)
            if len(taken) == 3:
                break

        taken += one.generate(4)
        assert taken == decoded_here(language_model, prompt(5), 7)


def test_few_bytes_cross_for_a_token(remote: RemoteServer, decoder: Placed) -> None:
    with session(remote, decoder) as one:
        one.prefill(prompt(5))
        before = remote.counted
        list(one.generate(100))
        after = remote.counted

    assert after.bytes_received - before.bytes_received <= 50 * 100
    assert after.bytes_sent - before.bytes_sent <= 100


def test_both_ends_count_the_same_bytes(remote: RemoteServer, decoder: Placed) -> None:
    with session(remote, decoder) as one:
        one.prefill(prompt(5))
        list(one.generate(10))
    before = remote.counted
    counts = remote.counts()

    assert counts["wire_sent_bytes"] == before.bytes_received
    assert before.bytes_sent < counts["wire_received_bytes"] == remote.counted.bytes_sent


# ---------------------------------------------------------------- what is lost


def test_a_lost_server_is_replaced_and_the_tokens_go_on(
    decoder: Placed, language_model: torch.nn.Module
) -> None:
    server = Server("tcp://127.0.0.1:0")
    with connect(server.address, reconnect_s=20) as remote, session(remote, decoder) as one:
        one.prefill(prompt(5))
        tokens = []
        for token in one.generate(240):
            tokens.append(token)
            if len(tokens) == 3:
                server.close()
                server = Server(server.address)

        assert tokens == decoded_here(language_model, prompt(5), 240)
        assert one.recoveries >= 1
    server.close()


def test_a_lost_server_is_an_error_in_bounded_time(decoder: Placed) -> None:
    server = Server("tcp://127.0.0.1:0")
    with connect(server.address, reconnect_s=0.2) as remote, session(remote, decoder) as one:
        one.prefill(prompt(5))
        server.close()

        with pytest.raises(ServerLost, match="server at tcp://127"):
            list(one.generate(30))


def test_the_time_to_reconnect_passes_once(decoder: Placed) -> None:
    server = Server("tcp://127.0.0.1:0")
    with connect(server.address, reconnect_s=0.5) as remote, session(remote, decoder) as one:
        one.prefill(prompt(5))
        server.close()
        began = time.monotonic()
        with pytest.raises(ServerLost):
            list(one.generate(30))
        assert time.monotonic() - began < 3 * 0.5


def test_a_session_whose_lease_ran_out_reads_its_tokens_again(
    decoder: Placed, language_model: torch.nn.Module
) -> None:
    with (
        Server("tcp://127.0.0.1:0", quotas=Quotas(lease_s=0.0)) as server,
        connect(server.address) as remote,
        session(remote, decoder) as one,
    ):
        one.prefill(prompt(5))
        first = list(one.generate(5))
        server.house.sessions.drop_expired()

        assert first + list(one.generate(5)) == decoded_here(language_model, prompt(5), 10)
        assert one.recoveries == 1


def test_a_closed_session_says_so(remote: RemoteServer, decoder: Placed) -> None:
    one = session(remote, decoder)
    one.close()
    one.close()

    with pytest.raises(SessionLost, match="this session is closed"):
        one.prefill([1])
    with pytest.raises(SessionLost, match="this session is closed"):
        one.generate(1)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(1, 2), r"token ids are float32 \[1, 2\]"),
        (torch.zeros(2, 2, dtype=torch.int64), r"shape \(1, tokens\)"),
        ([], "no tokens"),
    ],
)
def test_bad_tokens_are_refused_and_do_no_harm(
    remote: RemoteServer,
    decoder: Placed,
    language_model: torch.nn.Module,
    ids: torch.Tensor | list[int],
    message: str,
) -> None:
    with session(remote, decoder) as one:
        with pytest.raises(BadValue, match=message):
            one.prefill(ids)
        one.prefill(prompt(3))

        assert list(one.generate(3)) == decoded_here(language_model, prompt(3), 3)


def test_a_token_that_there_is_not_is_refused(remote: RemoteServer, decoder: Placed) -> None:
    with session(remote, decoder) as one, pytest.raises(Refused, match="embedding"):
        one.prefill([1000])


def test_generating_before_anything_was_read_is_refused(
    remote: RemoteServer, decoder: Placed
) -> None:
    with session(remote, decoder) as one:
        with pytest.raises(BadValue, match="read nothing yet"):
            list(one.generate(1))
        with pytest.raises(BadValue, match="asks for no token"):
            one.generate(0)


def test_nothing_is_left_of_sessions(server: Server, decoder: Placed) -> None:
    with connect(server.address) as remote:
        for _ in range(3):
            with session(remote, decoder) as one:
                one.prefill(prompt(5))
                list(one.generate(2))
        left_open = session(remote, decoder)
        left_open.prefill(prompt(5))
        assert len(server.house.sessions) == 1
    for _ in range(100):
        if not len(server.house.sessions):
            break
        threading.Event().wait(0.02)

    assert server.house.counts()["sessions_bytes"] == len(server.house.sessions) == 0


def three(remote: RemoteServer, decoder: Placed) -> list[RemoteSession]:
    """Sessions at different places of different texts; the second has an unread token."""
    sessions = [session(remote, decoder) for _ in range(3)]
    for seed, one in enumerate(sessions):
        one.prefill(prompt(5 + seed, seed=seed))
    list(sessions[1].generate(3))
    return sessions


def test_sessions_take_each_others_places(
    remote: RemoteServer, decoder: Placed, language_model: torch.nn.Module
) -> None:
    sessions = three(remote, decoder)
    noted = [one.tokens for one in sessions]
    read = remote.counts()["wire_received_bytes"]
    reorder(sessions, [1, 0, 1])
    assert remote.counts()["wire_received_bytes"] - read < 500  # nothing was read again
    for one, source in zip(sessions, [1, 0, 1], strict=True):
        assert one.tokens == noted[source]
        here = decoded_here(language_model, torch.tensor([noted[source]]), 6)
        assert list(one.generate(6)) == here


def test_places_are_taken_also_when_the_server_is_lost(
    server: Server, decoder: Placed, language_model: torch.nn.Module
) -> None:
    with connect(server.address) as remote:
        sessions = three(remote, decoder)
        noted = [one.tokens for one in sessions]
        remote.channel.link.close()
        reorder(sessions, [1, 0, 1])
        for one, source in zip(sessions, [1, 0, 1], strict=True):
            here = decoded_here(language_model, torch.tensor([noted[source]]), 6)
            assert list(one.generate(6)) == here
        assert remote.counts()["sessions"] == 3


@pytest.mark.parametrize("sources", [[0], [0, 1, 3], [0, 1, -1]])
def test_places_that_are_none_are_refused(
    remote: RemoteServer, decoder: Placed, sources: list[int]
) -> None:
    with pytest.raises(BadValue, match="3 sessions want as many sources"):
        reorder(three(remote, decoder), sources)


@pytest.mark.parametrize(
    ("names", "sources", "error", "words"),
    [
        ([0, 0], (0, 1), "BadValue", "named twice"),
        ([0, 1], (0, 2), "BadValue", "2 sessions want 2 sources"),
        ([0, None], (1, 1), "SessionLost", "no such session"),
    ],
)
def test_a_server_refuses_an_order_that_is_none(
    remote: RemoteServer,
    decoder: Placed,
    names: list[int | None],
    sources: tuple[int, ...],
    error: str,
    words: str,
) -> None:
    sessions = three(remote, decoder)
    request = Reorder(
        tuple("?" if name is None else sessions[name]._name for name in names), sources
    )
    with pytest.raises(RemoraError, match=words) as raised:
        remote.channel.call(request)
    assert type(raised.value).__name__ == error
    assert len(list(sessions[0].generate(2))) == 2  # none is left at work
