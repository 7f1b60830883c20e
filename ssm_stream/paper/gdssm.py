"""The paper's layer: a gated linear state space model whose recurrence is gradient descent.

Implements docs/model.md, section 1, after "State-space models can learn in-context by gradient descent" (arXiv
2410.11687). The layer reads a sequence of examples and a query, and answers with the prediction of the linear model
that gradient descent on

    L(W) = 1/(2N) Σ_i ‖W x_i − y_i‖²        starting at W0

would have after K steps. Nothing is updated between sequences: the state is the gradient.

Symbols, and the shapes that every docstring below uses
    B        sequences in a batch
    N        example pairs in a sequence (the context length)
    f        numbers in an input x
    m        numbers in a target y
    d        numbers in a token, d = max(f, m); x fills a token from the left, y from the right
    K        gradient steps, that is, layers
    x, y, q  inputs (B, N, f), targets (B, N, m), query (B, f)
    tokens   x_1, y_1, …, x_N, y_N, q                                    (B, 2N+1, d)
    T        window T_k = [x_k; y_k; x_{k+1}], size 3, stride 2          (B, N, 3, d)
    Q        input gate: U_k = T_kᵀ Q T_k, quadratic in the window       (3, 3)
    U        what event k adds to the state, stored as U_kᵀ              (B, N, d, d)
    Δ        step of the discretisation, trained as log Δ                (d, d)
    Λ        decay exp(−Δ/2) of the diagonal state, 0 < Λ ≤ 1            (d, d)
    Z        state Z_k = Λ ⊙ Z_{k−1} + U_kᵀ, Z_0 = 0                     (B, N, d, d)
    D        output gate: o_k = T_kᵀ D, the vector that reads the state   (3,)
    C        read-out: out_k = C Z_k o_k; the prediction is −out_k       (d, d)
    η        learning rate of the gradient descent that the layer is; on the loss above the layer holds η/N
    W0       weights before the first step (the implicit model)          (m, f)
    G, S     Σ y xᵀ/N (m, f) and Σ x xᵀ/N (f, f) of the context

With Q = e0 e1ᵀ, Λ = 1, D = e2, C = −(η/N) I the prediction is one gradient step from zero, exactly; so is every prefix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

WINDOW = 3
"""Tokens in a window: an input, its target, the next input."""
STRIDE = 2
"""Tokens from one window to the next: one example pair."""

STEP_MIN, STEP_MAX = 1e-3, 0.1
"""Range of Δ at initialisation (log-uniform), hence Λ between 0.951 and 0.9995."""


# --- tokens -----------------------------------------------------------------------------------------------------------


def pack_tokens(x: Tensor, y: Tensor, query: Tensor) -> Tensor:
    """Interleave examples and query into the sequence that the layer reads.

    x (B, N, f), y (B, N, m), query (B, f) → tokens (B, 2N+1, d). A scalar target is the token [0, …, 0, y].
    """
    batch, pairs, f = x.shape
    m = y.shape[-1]
    d = max(f, m)
    tokens = x.new_zeros(batch, 2 * pairs + 1, d)
    tokens[:, 0:-1:2, :f] = x
    tokens[:, 1::2, d - m :] = y
    tokens[:, -1, :f] = query
    return tokens


def windows(tokens: Tensor) -> Tensor:
    """Sliding windows T of a token sequence: (B, 2N+1, d) → (B, N, 3, d). The last one holds the query."""
    if tokens.ndim != 3 or tokens.shape[1] < WINDOW or tokens.shape[1] % STRIDE == 0:
        raise ValueError(f"tokens must be (batch, 2N+1, d) with N ≥ 1, got {tuple(tokens.shape)}")
    return tokens.unfold(1, WINDOW, STRIDE).transpose(2, 3)


def constructed_tokens(x: Tensor, y: Tensor, query: Tensor) -> Tensor:
    """Tokens in which somebody has already multiplied: [vec(y_k x_kᵀ); x_{k+1}] → (B, N, m·f + f).

    The paper's first construction: for a scalar target this is [x_k y_k; x_{k+1}], and neither window nor input gate
    is needed. See `ConstructedGDSSM`.
    """
    products = torch.einsum("bnm,bnf->bnmf", y, x).flatten(2)
    following = torch.cat([x[:, 1:], query[:, None]], dim=1)
    return torch.cat([products, following], dim=-1)


def centred_one_hot(labels: Tensor, classes: int) -> Tensor:
    """Target tokens onehot(label) − 1/classes: labels (B, N) → (B, N, classes).

    The softmax cross-entropy has the gradient Σ (softmax(W x) − onehot) xᵀ/N, and at W0 = 0 the softmax is uniform.
    One step of the squared loss on these targets is therefore one step of the cross-entropy.
    """
    return nn.functional.one_hot(labels, classes).to(torch.get_default_dtype()) - 1.0 / classes


# --- the diagonal recurrence ------------------------------------------------------------------------------------------


def scan(u: Tensor, decay: Tensor) -> Tensor:
    """All states of Z_k = decay ⊙ Z_{k−1} + u_k, Z_0 = 0, for constant decay: u (B, N, …), decay (…) → (B, N, …).

    A prefix scan by doubling: after the pass with offset s every position holds the decayed sum of its last 2s inputs,
    so log2(N) passes over whole arrays replace N steps.
    """
    z = u
    offset = 1
    power = decay
    while offset < u.shape[1]:
        z = torch.cat([z[:, :offset], torch.addcmul(z[:, offset:], z[:, :-offset], power)], dim=1)
        power = power * power
        offset *= 2
    return z


def last_state(u: Tensor, decay: Tensor) -> Tensor:
    """The last state of `scan` alone, as one weighted sum Σ_k decay^(N−k) ⊙ u_k: (B, N, …) → (B, …)."""
    age = torch.arange(u.shape[1] - 1, -1, -1, device=u.device, dtype=u.dtype)
    weights = decay ** age.view(-1, *([1] * decay.ndim))
    return (u * weights).sum(1)


class GatedState(nn.Module):
    """Input gate, diagonal state and read-out: one head of the layer. Parameters Q (3, 3), log Δ (d, d), C (d, d)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.Q = nn.Parameter(0.1 * torch.randn(WINDOW, WINDOW))
        self.log_step = nn.Parameter(torch.empty(d, d).uniform_(math.log(STEP_MIN), math.log(STEP_MAX)))
        self.C = nn.Parameter(torch.randn(d, d) / math.sqrt(d))

    @property
    def decay(self) -> Tensor:
        """Λ = exp(−Δ/2), (d, d): the paper's exp(Λ_re Δ) with Λ_re held at its initial −1/2, as only the product acts.

        Between 0 and 1 whatever training does; exactly 1 for log Δ = −∞.
        """
        return torch.exp(-0.5 * torch.exp(self.log_step))

    def input_gate(self, T: Tensor) -> Tensor:
        """U_kᵀ = T_kᵀ Qᵀ T_k of every window: (B, N, 3, d) → (B, N, d, d)."""
        return (self.Q @ T).transpose(-1, -2) @ T

    def construct(self, left: int, right: int, rate: float | Tensor, decay: float) -> None:
        """Set the head by hand: Q = e_left e_rightᵀ, Λ = decay everywhere, C = rate · I."""
        if not 0.0 < decay <= 1.0:
            raise ValueError(f"decay must be in (0, 1], got {decay}")
        with torch.no_grad():
            self.Q.zero_()[left, right] = 1.0
            self.log_step.fill_(math.log(-2.0 * math.log(decay)) if decay < 1.0 else -math.inf)
            self.C.copy_(rate * torch.eye(self.C.shape[0], dtype=self.C.dtype))


class GDSSMState(NamedTuple):
    """What one sequence needs between two events: K·d² + (K−1)·d² numbers, whatever its length."""

    answer: tuple[Tensor, ...]
    """K states, (B, d, d) each; with the construction N·G of the events so far."""
    refine: tuple[Tensor, ...]
    """K−1 states, (B, d, d) each; with the construction N·S of the events so far."""


class GDSSM(nn.Module):
    """K stacked gated SSM layers; the paper's layer for K = 1.

    A step of gradient descent is W_{j+1} = W_j (I − η_j S) + η_j G, hence W_K q is found from its last step backwards:

        prediction ← prediction + η_j G v,      v ← v − η_j S v,      starting at v = q, prediction = W0 q.

    So layer j holds two heads over the same windows: `answer[j]` with Q = e0 e1ᵀ, whose state is N·G, adds to the
    prediction; `refine[j]` with Q = e0 e0ᵀ, whose state is N·S, adds to the vector v that reads the next layer's
    state. The last layer needs no `refine`. Both are linear reads of a causal state, so that every prefix of the
    sequence gets the K steps on its own examples.
    """

    W0: Tensor | None

    def __init__(self, d: int, steps: int = 1) -> None:
        """A layer at random initialisation (Q ~ N(0, 0.1²), D ~ N(0, 1), C ~ N(0, 1/d)), for tokens of d numbers."""
        super().__init__()
        if d < 1 or steps < 1:
            raise ValueError(f"a layer needs d ≥ 1 and steps ≥ 1, got d={d}, steps={steps}")
        self.d = d
        self.answer = nn.ModuleList([GatedState(d) for _ in range(steps)])
        self.refine = nn.ModuleList([GatedState(d) for _ in range(steps - 1)])
        self.D = nn.Parameter(torch.randn(WINDOW))
        self.register_buffer("W0", None)

    @property
    def heads(self) -> tuple[list[GatedState], list[GatedState]]:
        """The K `answer` and the K−1 `refine` heads, first layer first."""
        answer = [head for head in self.answer if isinstance(head, GatedState)]
        refine = [head for head in self.refine if isinstance(head, GatedState)]
        return answer, refine

    @classmethod
    def gradient_descent(
        cls,
        d: int,
        rates: float | Sequence[float],
        pairs: int,
        W0: Tensor | None = None,
        decay: float = 1.0,
    ) -> GDSSM:
        """The layer whose prediction is gradient descent with the learning rates η, from W0.

        rates: η of the steps, in any order (the product of the steps' polynomials in S commutes). pairs: N of the loss;
        the layer holds η/N, so a shorter context gives the step with the same η/N. W0 (m, f) or None for zero. With
        decay < 1 example i of k weighs decay^(k−i): an exponentially forgetting loss.
        """
        etas = [rates] if isinstance(rates, int | float) else list(rates)
        layer = cls(d, steps=len(etas)).to(torch.get_default_dtype())
        answer, refine = layer.heads
        for head, eta in zip(answer, etas, strict=True):
            head.construct(0, 1, -eta / pairs, decay)
        for head, eta in zip(refine, etas[:-1], strict=True):
            head.construct(0, 0, -eta / pairs, decay)
        with torch.no_grad():
            layer.D.copy_(torch.tensor([0.0, 0.0, 1.0]))
        if W0 is not None:
            layer.start_from(W0)
        return layer

    def start_from(self, W0: Tensor) -> None:
        """Let the descent start at W0 (m, f) instead of zero: the layer then learns the residual y − W0 x."""
        m, f = W0.shape
        d = self.d
        padded = torch.zeros(d, d, dtype=self.D.dtype, device=self.D.device)
        padded[d - m :, :f] = W0
        self.W0 = padded

    def implicit_residual(self, T: Tensor) -> tuple[Tensor, Tensor | None]:
        """Windows with y_k − W0 x_k in the place of y_k, and W0 x_{k+1} (…, d) to add to the answer."""
        if self.W0 is None:
            return T, None
        x, y, following = T.unbind(-2)
        return torch.stack([x, y - x @ self.W0.T, following], dim=-2), following @ self.W0.T

    def read(self, T: Tensor, answer: Sequence[Tensor], refine: Sequence[Tensor], start: Tensor | None) -> Tensor:
        """Output gate and read-out: windows (…, 3, d) and states (…, d, d) → predictions (…, d)."""
        v = torch.einsum("...pd,p->...d", T, self.D)
        prediction = torch.zeros_like(v) if start is None else start
        answers, refines = self.heads
        for j, (head, Z) in enumerate(zip(answers, answer, strict=True)):
            prediction = prediction - (Z @ v[..., None])[..., 0] @ head.C.T
            if j < len(refines):
                v = v + (refine[j] @ v[..., None])[..., 0] @ refines[j].C.T
        return prediction

    def forward(self, tokens: Tensor) -> Tensor:
        """Parallel form: tokens (B, 2N+1, d) → predictions (B, N, d), row k for x_{k+1} from the first k pairs."""
        T, start = self.implicit_residual(windows(tokens))
        answer, refine = ([scan(h.input_gate(T), h.decay) for h in heads] for heads in self.heads)
        return self.read(T, answer, refine, start)

    def predict_query(self, tokens: Tensor) -> Tensor:
        """Last row of the parallel form alone, without the states before it: (B, 2N+1, d) → (B, d)."""
        T, start = self.implicit_residual(windows(tokens))
        answer, refine = ([last_state(h.input_gate(T), h.decay) for h in heads] for heads in self.heads)
        return self.read(T[:, -1], answer, refine, None if start is None else start[:, -1])

    def initial_state(self, batch: int) -> GDSSMState:
        """State before the first event: zeros."""
        answers, refines = self.heads
        zeros = self.D.new_zeros(batch, self.d, self.d)
        return GDSSMState(tuple(zeros for _ in answers), tuple(zeros for _ in refines))

    def step(self, state: GDSSMState, window: Tensor) -> tuple[Tensor, GDSSMState]:
        """Recurrent form, one event: window (B, 3, d) → prediction (B, d) for its third token, and the next state."""
        T, start = self.implicit_residual(window)
        answers, refines = self.heads
        after = GDSSMState(
            tuple(h.decay * Z + h.input_gate(T) for h, Z in zip(answers, state.answer, strict=True)),
            tuple(h.decay * Z + h.input_gate(T) for h, Z in zip(refines, state.refine, strict=True)),
        )
        return self.read(T, after.answer, after.refine, start), after

    def recurrent(self, tokens: Tensor) -> Tensor:
        """`forward` by `step`, one event after the other: the definition that the parallel form must equal."""
        state = self.initial_state(tokens.shape[0])
        predictions = []
        for window in windows(tokens).unbind(1):
            prediction, state = self.step(state, window)
            predictions.append(prediction)
        return torch.stack(predictions, dim=1)


class ConstructedGDSSM(nn.Module):
    """One gradient step on constructed tokens: the state adds the products that the tokens carry, nothing else.

    decay (m, f) and C (m, m) are set by the construction Λ = 1, C = −(η/N) I.
    """

    def __init__(self, f: int, m: int, rate: float, pairs: int) -> None:
        """f inputs, m targets, η and N."""
        super().__init__()
        self.f, self.m = f, m
        self.decay = nn.Parameter(torch.ones(m, f))
        self.C = nn.Parameter(-rate / pairs * torch.eye(m))

    def forward(self, tokens: Tensor) -> Tensor:
        """Constructed tokens (B, N, m·f + f) → predictions (B, N, m)."""
        u = tokens[..., : self.m * self.f].view(*tokens.shape[:-1], self.m, self.f)
        following = tokens[..., self.m * self.f :]
        return -torch.einsum("ml,bnlf,bnf->bnm", self.C, scan(u, self.decay), following)


class NonlinearGDSSM(nn.Module):
    """Embedding, layer, gated MLP: the paper's form for tasks that are not linear in x.

    One shared Dense embeds every token, inputs and targets alike; the layer does its gradient step in that space; then
    h·σ(W₂ gelu(h)) and a Dense to the target. `hidden` adds a gelu layer before the embedding, so that inputs are
    embedded by a non-linear function (targets go through the same).
    """

    def __init__(self, token: int, width: int, outputs: int, hidden: int = 0) -> None:
        """token: numbers in a raw token. width: d of the layer. outputs: m. hidden: 0, or units of the gelu layer."""
        super().__init__()
        self.embed: nn.Module = nn.Linear(token, width)
        if hidden:
            self.embed = nn.Sequential(nn.Linear(token, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.layer = GDSSM(width)
        self.gate = nn.Linear(width, width)
        self.decode = nn.Linear(width, outputs)

    def head(self, h: Tensor) -> Tensor:
        """Gated MLP and decoder: (…, width) → (…, m)."""
        decoded: Tensor = self.decode(h * torch.sigmoid(self.gate(nn.functional.gelu(h))))
        return decoded

    def forward(self, tokens: Tensor) -> Tensor:
        """Raw tokens (B, 2N+1, token) → predictions (B, N, m)."""
        return self.head(self.layer(self.embed(tokens)))

    def predict_query(self, tokens: Tensor) -> Tensor:
        """Prediction for the query alone: (B, 2N+1, token) → (B, m)."""
        return self.head(self.layer.predict_query(self.embed(tokens)))
