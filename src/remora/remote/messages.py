"""What a program and a server say to each other. Tensors go beside these, never in them."""

from __future__ import annotations

import msgspec

from remora.remote.graph.layout import Constant, Layout, Leaf

Digest = str
"""SHA-256 of a tensor's or a graph's contents, as hex digits."""


class Message(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The base of all."""


# ------------------------------------------------- what is wanted of an output


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """What is to come back of one output.

    ``kind`` is ``full``; ``last``, the last position along dim 1; ``top``, the ``count`` largest
    along the last dim of the last position, as values and indices; ``token``, the index of the
    largest there; ``handle``, which stays on the server and can be given to other calls;
    ``nothing``.
    """

    kind: str = "full"
    count: int = 0


class Draw(msgspec.Struct, frozen=True, array_like=True):
    """How the next token is drawn: among the ``top_k`` likeliest (0: all), and of those among the
    fewest that together have a share of ``top_p``.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    """The same seed draws the same tokens behind the same text."""


# ------------------------------------------------- what a program asks


class Offer(Message, frozen=True, tag=1):
    """Weights that a model needs: which of them does the server lack? → :class:`Lacking`."""

    digests: tuple[Digest, ...]


class Upload(Message, frozen=True, tag=2):
    """Weights, one tensor a digest. → :class:`Done`."""

    digests: tuple[Digest, ...]


class Load(Message, frozen=True, tag=3):
    """A graph, encoded, as the one tensor. Its weights are there already. → :class:`Loaded`."""

    decoder: bool = False
    """Whether it is the step of a language model, so that it may have sessions."""
    positions: int = 0
    """The most tokens that a session may have; 0 for any number."""


class Run(Message, frozen=True, tag=4):
    """Call a model with the tensors. → :class:`Ran` and its outputs."""

    model: str
    profiled: bool = False
    wanted: tuple[Wanted, ...] = ()
    """What is wanted of each output; all of each by default. The count of a ``handle`` is the
    number that it is kept by, from 1 on."""
    freed: tuple[int, ...] = ()
    """Numbers of what is needed no longer."""
    held: tuple[int, ...] = ()
    """For each input the number that it is kept by, or 0 where it comes with the request; empty
    where all do."""


class Open(Message, frozen=True, tag=5):
    """Begin a session with a decoder. The tensors are its context, where the model has inputs that
    stay as they are from token to token: what an encoder gave. → :class:`Opened`.
    """

    model: str
    held: tuple[int, ...] = ()
    """As in :class:`Run`. What was kept is the session's from then on."""


class Prefill(Message, frozen=True, tag=6):
    """Read token ids, the one tensor (1, tokens), behind what the session holds. → :class:`Done`.

    The next token is computed and kept; :class:`Generate` begins with it.
    """

    session: str
    profiled: bool = False
    wanted: Wanted = Wanted("nothing")
    """What is wanted of the logits (1, 1, vocabulary) behind the last token."""


class Generate(Message, frozen=True, tag=7):
    """Decode until ``count`` tokens, or one of ``stop``. → :class:`Tokens`, streamed."""

    session: str
    count: int
    stop: tuple[int, ...] = ()
    profiled: bool = False
    draw: Draw | None = None
    """None: the likeliest token each time."""


class Close(Message, frozen=True, tag=8):
    """End a session and free what it holds. → :class:`Done`."""

    session: str


class Count(Message, frozen=True, tag=9):
    """What does the server hold, and what has crossed this connection? → :class:`Counts`."""


class Echo(Message, frozen=True, tag=10):
    """The tensors come back as they are. → :class:`Done`, with when the request came."""


class Unload(Message, frozen=True, tag=11):
    """This connection needs a model no longer. → :class:`Done`."""

    model: str


class Rewind(Message, frozen=True, tag=12):
    """Forget all that a session holds behind its first ``length`` tokens. → :class:`Done`.

    ``unread`` is the token behind those, which :class:`Generate` begins by reading.
    """

    session: str
    length: int
    unread: int


class Reorder(Message, frozen=True, tag=23):
    """Each of some sessions goes on from where one of them stands, all at once, as beams do.
    → :class:`Done`.
    """

    sessions: tuple[str, ...]
    sources: tuple[int, ...]
    """For each, which of them it takes the place of in the text: an index."""


class Fetch(Message, frozen=True, tag=21):
    """What is kept by that number. → :class:`Ran` and the tensor."""

    number: int


class Free(Message, frozen=True, tag=22):
    """Nobody needs what is kept by those numbers any more. → :class:`Done`."""

    numbers: tuple[int, ...]


class Recipe(msgspec.Struct, frozen=True, array_like=True):
    """How a server builds a model of its own code: which builder, what it is called there, and its
    config, a JSON object.
    """

    builder: str
    name: str
    config: str


class Given(msgspec.Struct, frozen=True, array_like=True):
    """One argument of a call: a tensor, of which only this is said, or a constant."""

    name: str = ""
    """Empty where it goes by its place."""
    dtype: str = ""
    """Empty for a constant."""
    shape: tuple[int, ...] = ()
    """An example; sizes that may vary are 2 or more in it."""
    varying: tuple[int, ...] = ()
    """The dims whose sizes may be others."""
    constant: Constant = None


class Prepare(Message, frozen=True, tag=20):
    """Build a model, give it weights that are there already, capture one kind of call of it.
    → :class:`Prepared`.
    """

    recipe: Recipe
    names: tuple[str, ...]
    """Of the weights, as in the model's ``state_dict``."""
    digests: tuple[Digest, ...]
    given: tuple[Given, ...] = ()
    decoder: bool = False
    """The step of a language model, instead of a call."""


class Compute(Message, frozen=True, tag=13):
    """Do what a plan says, operator by operator. → :class:`Ran` and what it was to send back.

    The tensors that it puts on the server come with it; before them, where it is ``anew``, the plan
    itself, encoded. Without a plan it frees, and does nothing else.
    """

    plan: Digest = ""
    inputs: tuple[int, ...] = ()
    """Tensors of this connection that it works on, in the order in which it meets them."""
    first: int = 0
    """The number of the first tensor that it makes; the others follow."""
    freed: tuple[int, ...] = ()
    """Tensors that nobody needs any more, and that it does not work on."""
    anew: bool = False
    """Whether the plan has not crossed this connection yet, or so long ago that it is forgotten."""
    frees_all: bool = False
    """Whether nothing of this connection is needed any more."""
    scalars: tuple[float, ...] = ()
    """Numbers that operators are given."""


# ------------------------------------------------- what a server answers


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """Where a request spent its time on the server, in nanoseconds."""

    received_ns: int = 0
    """When its last byte had come, on the server's clock."""
    receive_ns: int = 0
    """From its first byte to that."""
    queue_ns: int = 0
    plan_ns: int = 0
    """Finding the model and checking shapes and sizes."""
    placement_ns: int = 0
    """Bringing inputs to the device."""
    execute_ns: int = 0
    output_ns: int = 0
    """Selecting what is wanted and bringing it to the host."""
    cleanup_ns: int = 0
    answered_ns: int = 0
    """When the answer was handed to who sends it, on the server's clock."""
    batch: int = 1
    """How many sequences shared the execution."""


class Done(Message, frozen=True, tag=32):
    """It has been done."""

    profile: Profile | None = None


class Lacking(Message, frozen=True, tag=33):
    """The weights that have to be uploaded."""

    digests: tuple[Digest, ...]


class Loaded(Message, frozen=True, tag=34):
    """The model's name on this server."""

    model: str


class Ran(Message, frozen=True, tag=35):
    """The outputs are the tensors."""

    profile: Profile | None = None
    kept: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Dtype and shape of each output that is kept, in order."""


class Opened(Message, frozen=True, tag=36):
    """The session's name, a secret, and how long it stays without being used."""

    session: str
    lease_s: float


class Tokens(Message, frozen=True, tag=37):
    """Tokens as they are decoded."""

    ids: tuple[int, ...]
    last: bool = False
    profile: Profile | None = None


class TimesTold(msgspec.Struct, frozen=True, array_like=True):
    """What is known of many times, in nanoseconds. A percentile is at most a sixteenth too long."""

    count: int = 0
    sum_ns: int = 0
    p50_ns: int = 0
    p90_ns: int = 0
    p99_ns: int = 0
    most_ns: int = 0


class ClientCounts(msgspec.Struct, frozen=True, array_like=True):
    """What one client was given of a device that a policy shares out."""

    number: int
    """Its place among all that ever came, from 1 on."""
    priority: str
    """``high`` or ``best-effort``."""
    left: bool = False
    requests: int = 0
    """Answered, or failed."""
    units: int = 0
    """Pieces of work that the device was given, slices counted each."""
    beyond_bound: int = 0
    """Of those, such as could not be cut as fine as the policy's bound."""
    device_ns: int = 0
    """How long they had the device, together."""
    turnaround: TimesTold = TimesTold()
    """How long each unit waited for the device once it could have run."""
    response: TimesTold = TimesTold()
    """From each request's last byte to its answer; of tokens that are streamed, to the last."""


class Counts(Message, frozen=True, tag=38):
    """What a server holds and has done, by name. Bytes and numbers."""

    counts: dict[str, int]
    clients: tuple[ClientCounts, ...] = ()
    """Of a server with a policy, each client that is there, and the last that have left."""


class Failed(Message, frozen=True, tag=39):
    """It was not done. ``kind`` is the name of an error in :mod:`remora.core.errors`."""

    kind: str
    text: str
    node: int = -1
    """The node of the graph that failed, where one did."""


class Prepared(Message, frozen=True, tag=50):
    """The model's name on this server, and how its outputs make up what it returns."""

    model: str
    layout: Layout = Leaf()
    lines: tuple[str, ...] = ()
    """For each node of its graph the line of the model's code that it comes from."""
    listening: str = ""
    """The model that makes a decoder's context out of sound, where it has one."""
    context: int = 0
    """How many tensors that context is."""


Request = (
    Offer | Upload | Load | Run | Open | Prefill | Generate | Close | Count | Echo | Unload | Rewind
    | Reorder | Prepare | Compute | Fetch | Free
)  # fmt: skip
Reply = Done | Lacking | Loaded | Ran | Opened | Tokens | Counts | Failed | Prepared


def is_last(reply: Reply) -> bool:
    """Whether no more will come of the request."""
    return reply.last if isinstance(reply, Tokens) else True
