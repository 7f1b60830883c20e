"""Time and memory over lengths: the state-space layer in its three forms against attention in two."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.paper.equalities import largest
from ssm_stream.paper.experiment import Context, seconds, within
from ssm_stream.paper.gdssm import GDSSM, scan, windows
from ssm_stream.paper.models import Attention

MIB = 2.0**20


@dataclass(frozen=True)
class LengthSettings:
    """Examples in a sequence, tokens of d numbers; one sequence at a time, as an endless stream is one."""

    lengths: tuple[int, ...] = (64, 256, 1024, 4096, 16_384)
    longest_recurrent: int = 4096
    longest_matrix: int = 4096
    """Beyond it attention does not write its matrix out: at 16,384 examples it has a gigabyte."""
    d: int = 10
    chunk: int = 256
    repeats: int = 5
    seed: int = 12


Call = Callable[[Tensor], Tensor]
Figures = dict[str, dict[int, tuple[float, float]]]
"""Milliseconds and bytes at the most, by form and length."""


def chunked(layer: GDSSM, tokens: Tensor, size: int) -> Tensor:
    """`GDSSM.forward` of a layer of one step by chunks: parallel inside a chunk, a state from one to the next.

    Tokens (B, 2N+1, d) → predictions (B, N, d). What it holds at once does not grow with N.
    """
    (head,) = layer.heads[0]
    Z = tokens.new_zeros(tokens.shape[0], layer.d, layer.d)
    power = head.decay ** torch.arange(1, size + 1, dtype=tokens.dtype)[:, None, None]
    out = []
    for T in torch.split(windows(tokens), size, dim=1):
        states = scan(head.input_gate(T), head.decay) + power[: T.shape[1]] * Z[:, None]
        out.append(layer.read(T, [states], [], None))
        Z = states[:, -1]
    return torch.cat(out, dim=1)


def attend(model: Attention, tokens: Tensor, fused: bool) -> Tensor:
    """All predictions of causal softmax attention: (B, 2N+1, d) → (B, N, d).

    fused: by torch's kernel, which never holds the whole matrix of weights; else with the matrix written out.
    """
    e = windows(tokens).flatten(2)
    query, key, value = (layer(e)[:, None] for layer in (model.query, model.key, model.value))
    if fused:
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        n = e.shape[1]
        scores = query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5
        future = torch.ones(n, n, dtype=torch.bool, device=e.device).triu(1)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ value
    answer: Tensor = model.out(mixed[:, 0])
    return answer


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations make while they are alive, and the most at once (`peak`).

    What a kernel allocates and frees inside is not seen: for fused attention that is a tile a thread.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live, self.peak = 0, 0
        self.known = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return out

    def count(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed; a view has that of its source."""
        place, size = storage._cdata, storage.nbytes()
        if place in self.known:
            return
        self.known.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.free, place, size)

    def free(self, place: int, size: int) -> None:
        """Take a storage back out of the count."""
        self.known.discard(place)
        self.live -= size


def peak_bytes(call: Callable[[], object]) -> float:
    """Most bytes of tensors that were alive at once during a call, beyond those before it."""
    with PeakMemory() as memory:
        call()
    return float(memory.peak)


def measure(forms: dict[str, tuple[Call, int]], settings: LengthSettings, training: bool) -> Figures:
    """Time and memory of a call of each form, with the longest sequence that it gets, at each length."""
    generator = torch.Generator().manual_seed(settings.seed)
    found: Figures = {name: {} for name in forms}
    for n in settings.lengths:
        tokens = torch.rand(1, 2 * n + 1, settings.d, generator=generator) - 0.5
        for name, (form, longest) in forms.items():
            if n > longest:
                continue

            def call(form: Call = form, tokens: Tensor = tokens) -> None:
                if training:
                    torch.autograd.backward(form(tokens).square().mean())
                else:
                    with torch.no_grad():
                        form(tokens)

            found[name][n] = 1e3 * seconds(call, settings.repeats), peak_bytes(call)
    return found


def lengths(settings: LengthSettings, context: Context) -> Section:
    """All predictions of a sequence, and a training step on all of them, by length."""
    d, most = settings.d, max(settings.lengths)
    torch.manual_seed(settings.seed)
    layer, attention = GDSSM(d), Attention(d, d, softmax=True)
    shared: dict[str, tuple[Call, int]] = {
        "state space, parallel": (layer.forward, most),
        "state space, chunks": (lambda t: chunked(layer, t, settings.chunk), most),
        "attention, matrix": (lambda t: attend(attention, t, fused=False), settings.longest_matrix),
        "attention, fused": (lambda t: attend(attention, t, fused=True), most),
    }
    recurrent: dict[str, tuple[Call, int]] = {"state space, recurrent": (layer.recurrent, settings.longest_recurrent)}
    forward = measure({**recurrent, **shared}, settings, training=False)
    context.advance(0.5)
    step = measure(shared, settings, training=True)
    checks = equal_forms(layer, attention, settings)
    return Section(
        "Time and memory over lengths",
        advice(forward, step, checks, settings),
        checks,
        [
            *tables("All predictions of a sequence", forward, settings),
            *tables("A training step on all predictions", step, settings),
        ],
        [
            chart("Time of all predictions", "ms", forward, 0),
            chart("Memory of all predictions", "MiB", forward, 1),
            chart("Time of a training step", "ms", step, 0),
            chart("Memory of a training step", "MiB", step, 1),
        ],
    )


def equal_forms(layer: GDSSM, attention: Attention, settings: LengthSettings) -> list[Check]:
    """The forms that are timed against each other compute the same."""
    generator = torch.Generator().manual_seed(settings.seed)
    tokens = torch.rand(2, 2 * 150 + 1, settings.d, generator=generator) - 0.5
    with torch.no_grad():
        parallel = layer(tokens)
        differences = {
            "chunks and parallel form": largest(chunked(layer, tokens, settings.chunk), parallel),
            "recurrent and parallel form": largest(layer.recurrent(tokens), parallel),
            "attention, fused and matrix": largest(
                attend(attention, tokens, fused=True), attend(attention, tokens, fused=False)
            ),
        }
    return [at_most(f"lengths: {name}, largest difference", off, 1e-4) for name, off in differences.items()]


def tables(title: str, figures: Figures, settings: LengthSettings) -> list[Table]:
    """Milliseconds, and mebibytes, by length and form."""
    names = list(figures)
    found = []
    for unit, index, scale in (("ms", 0, 1.0), ("MiB", 1, 1.0 / MIB)):
        rows: list[list[Cell]] = [
            [n, *(figures[name][n][index] * scale if n in figures[name] else "" for name in names)]
            for n in settings.lengths
        ]
        found.append(Table(f"{title}, {unit}", ["examples N", *names], rows))
    found[0].note = f"One sequence, d = {settings.d}, median processor time of {settings.repeats} calls on one thread."
    found[
        1
    ].note = "Most bytes of tensors alive at once during the call, the predictions among them, beyond those before it."
    return found


def chart(title: str, unit: str, figures: Figures, index: int) -> Chart:
    """A line a form."""
    scale = 1.0 / MIB if index else 1.0
    series = [
        Series(name, [float(n) for n in at], [values[index] * scale for values in at.values()])
        for name, at in figures.items()
    ]
    return Chart(title, "examples N", unit, series, log_x=True, log_y=True)


def advice(forward: Figures, step: Figures, checks: list[Check], settings: LengthSettings) -> list[str]:
    """Who is faster and smaller at the longest sequence, and from which length on."""
    most = max(settings.lengths)
    chunks, fused = forward["state space, chunks"], forward["attention, fused"]
    taught, fused_taught = step["state space, chunks"], step["attention, fused"]

    def figures(at: dict[int, tuple[float, float]]) -> str:
        return f"{at[most][0]:.1f} ms and {at[most][1] / MIB:.1f} MiB"

    return [
        "A prediction after every example of a sequence. The state space layer is run as its parallel scan, in chunks "
        f"of {settings.chunk} with a state between them, and event by event; softmax attention with its matrix "
        "written out, and by torch's fused kernel. " + within("The forms agree", checks),
        f"At {most:,} examples: chunks {figures(chunks)}, fused attention {figures(fused)}. "
        + first_ahead("The chunks are faster", chunks, fused)
        + f" A training step: {figures(taught)} against {figures(fused_taught)}. "
        + first_ahead("It is faster by chunks", taught, fused_taught),
        "The state is d² numbers whatever the length, an attention cache 2d numbers an example. The parallel scan "
        "trades memory for time: it holds all states at once, d² numbers an example, more than fused attention does. "
        "Training holds them too, as long as chunks are not computed again on the way back.",
    ]


def first_ahead(text: str, own: dict[int, tuple[float, float]], other: dict[int, tuple[float, float]]) -> str:
    """A sentence on the length from which `own` is faster for good."""
    ahead = [n for n in own if n in other and all(own[m][0] < other[m][0] for m in own if m >= n and m in other)]
    return f"{text} from {min(ahead):,} examples on." if ahead else f"{text} at none of the longest lengths measured."
