"""Models that the layer is compared with: ablations of its parts, and other sequence layers given the same window.

All read tokens (B, 2N+1, d) and predict the query's target token (B, d) from one layer. The baselines see
e_k = vec(T_k), the same three tokens that the layer's window holds, so that each has x_k and y_k
together. Only the last position is computed: the experiments train and test there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssm_stream.paper.gdssm import WINDOW, GatedState, NonlinearGDSSM, last_state, windows

ABLATIONS = ("linear input", "linear read-out", "window of one token")


class AblatedGDSSM(nn.Module):
    """The layer with one of its parts replaced.

    linear input: U_k is a linear map of the window (3d → d²) instead of the product T_kᵀ Q T_k.
    linear read-out: out is a linear map of the last state (d² → d) instead of C Z o.
    window of one token: tokens enter one by one, U_t = q·(token tokenᵀ), and the state is read with the last token.
    """

    def __init__(self, d: int, ablation: str) -> None:
        """Random initialisation as of the layer. Raises ValueError for an unknown ablation."""
        super().__init__()
        if ablation not in ABLATIONS:
            raise ValueError(f"unknown ablation {ablation!r}, expected one of {ABLATIONS}")
        self.ablation = ablation
        self.head = GatedState(d)
        self.D = nn.Parameter(torch.randn(WINDOW))
        if ablation == "linear input":
            self.linear = nn.Linear(WINDOW * d, d * d, bias=False)
        elif ablation == "linear read-out":
            self.linear = nn.Linear(d * d, d, bias=False)

    def predict_query(self, tokens: Tensor) -> Tensor:
        """(B, 2N+1, d) → (B, d)."""
        d = tokens.shape[-1]
        if self.ablation == "window of one token":
            u = self.head.Q[0, 0] * tokens[..., :, None] * tokens[..., None, :]
            query = self.D[0] * tokens[:, -1]
        else:
            T = windows(tokens)
            query = torch.einsum("bpd,p->bd", T[:, -1], self.D)
            if self.ablation == "linear input":
                u = self.linear(T.flatten(2)).view(*T.shape[:2], d, d)
            else:
                u = self.head.input_gate(T)
        Z = last_state(u, self.head.decay)
        if self.ablation == "linear read-out":
            answer: Tensor = -self.linear(Z.flatten(1))
            return answer
        return -(Z @ query[..., None])[..., 0] @ self.head.C.T


class Attention(nn.Module):
    """One attention layer, one head: queries, keys and values are linear in e_k; the last position is the query.

    softmax=False is linear attention, Σ_k (q·k_k) v_k / N, of which one gradient step is a special case.
    """

    def __init__(self, d: int, width: int, softmax: bool) -> None:
        """width: size of queries, keys and values."""
        super().__init__()
        self.softmax = softmax
        self.query = nn.Linear(WINDOW * d, width, bias=False)
        self.key = nn.Linear(WINDOW * d, width, bias=False)
        self.value = nn.Linear(WINDOW * d, width, bias=False)
        self.out = nn.Linear(width, d, bias=False)

    def predict_query(self, tokens: Tensor) -> Tensor:
        """(B, 2N+1, d) → (B, d)."""
        e = windows(tokens).flatten(2)
        scores = torch.einsum("bw,bnw->bn", self.query(e[:, -1]), self.key(e)) / math.sqrt(self.key.out_features)
        weights = scores.softmax(-1) if self.softmax else scores / e.shape[1]
        answer: Tensor = self.out(torch.einsum("bn,bnw->bw", weights, self.value(e)))
        return answer


class S5(nn.Module):
    """S5-style layer: a complex diagonal state, linear in its input, and a gated non-linear read-out.

    s_k = a ⊙ s_{k−1} + B e_k with |a| < 1 (half of the states' rates start slow), h = Re(R s_N) + E e_N, and the output
    Dense(h·σ(W gelu(h))), as in the S5 block.
    """

    def __init__(self, d: int, width: int, state: int) -> None:
        """width: of h; state: number of complex states."""
        super().__init__()
        self.log_step = nn.Parameter(torch.empty(state).uniform_(math.log(1e-3), math.log(0.1)))
        self.frequency = nn.Parameter(math.pi * torch.arange(state) / state * 0.1)
        self.drive = nn.Linear(WINDOW * d, 2 * state, bias=False)
        self.read = nn.Linear(2 * state, width, bias=False)
        self.skip = nn.Linear(WINDOW * d, width)
        self.gate = nn.Linear(width, width)
        self.decode = nn.Linear(width, d)

    def predict_query(self, tokens: Tensor) -> Tensor:
        """(B, 2N+1, d) → (B, d)."""
        e = windows(tokens).flatten(2)
        age = torch.arange(e.shape[1] - 1, -1, -1, device=e.device, dtype=e.dtype)[:, None]
        power = torch.polar(torch.exp(-0.5 * self.log_step.exp() * age), self.frequency * age)
        s = (power * torch.complex(*self.drive(e).chunk(2, dim=-1))).sum(1)
        h = self.read(torch.cat([s.real, s.imag], dim=-1)) + self.skip(e[:, -1])
        answer: Tensor = self.decode(h * torch.sigmoid(self.gate(nn.functional.gelu(h))))
        return answer


class Mamba(nn.Module):
    """Mamba-style selective layer: step, input and output vectors depend on the input; a SiLU gate on the output.

    h_k = exp(δ_k A) ⊙ h_{k−1} + δ_k u_k b_kᵀ and y = h_N c_N + skip ⊙ u_N, with u, δ (through a softplus), b and c
    linear in e_k. b_k u_k is a product of two functions of the window, so a gradient step is within its reach.
    """

    def __init__(self, d: int, width: int, state: int) -> None:
        """width: channels u; state: numbers a channel."""
        super().__init__()
        self.input = nn.Linear(WINDOW * d, 2 * width)
        self.select = nn.Linear(WINDOW * d, 2 * state)
        self.step = nn.Linear(WINDOW * d, width)
        nn.init.constant_(self.step.bias, math.log(math.expm1(0.05)))
        self.log_A = nn.Parameter(torch.arange(1, state + 1).float().log().repeat(width, 1) - 2.0)
        self.skip = nn.Parameter(torch.ones(width))
        self.decode = nn.Linear(width, d)

    def predict_query(self, tokens: Tensor) -> Tensor:
        """(B, 2N+1, d) → (B, d)."""
        e = windows(tokens).flatten(2)
        u, gate = self.input(e).chunk(2, dim=-1)
        b, c = self.select(e).chunk(2, dim=-1)
        delta = nn.functional.softplus(self.step(e))
        # exp of the summed exponents after k: what is left of event k in the last state, without a loop over events.
        later = delta.sum(1, keepdim=True) - delta.cumsum(1)
        left = torch.exp(-later[..., None] * self.log_A.exp())
        h = torch.einsum("bnws,bnw,bns->bws", left, delta * u, b)
        y = torch.einsum("bws,bs->bw", h, c[:, -1]) + self.skip * u[:, -1]
        answer: Tensor = self.decode(y * nn.functional.silu(gate[:, -1]))
        return answer


class NonlinearAttention(nn.Module):
    """Softmax attention in the place of the layer of `NonlinearGDSSM`: same embedding, same gated MLP."""

    def __init__(self, token: int, width: int, outputs: int, hidden: int) -> None:
        """Sizes as of `NonlinearGDSSM`."""
        super().__init__()
        self.shell = NonlinearGDSSM(token, width, outputs, hidden=hidden)
        self.attention = Attention(width, width, softmax=True)

    def predict_query(self, tokens: Tensor) -> Tensor:
        """(B, 2N+1, token) → (B, outputs)."""
        return self.shell.head(self.attention.predict_query(self.shell.embed(tokens)))
