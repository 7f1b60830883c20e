"""Vector loops of the kernels, written in LLVM's own vector types.

LLVM turns a plain loop into vector code only where it can show at run time that the arrays do not overlap, and leaves
the last elements to a scalar loop: for rows of 20 to 60 inputs that costs more than the work. Here each step handles
64 bytes (16 numbers of 32 bits, 8 of 64), rows are padded with zeros to whole steps (`padded`), and a product is fused
with the sum that it goes into. A processor with narrower registers takes several instructions a step and comes to the
same bits: every operation, and the order of every sum, is the one written here.

All take arrays of any dimension in C order, each with the flat place where its row begins, and n, a multiple of the
step. Nothing checks bounds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

STEP_BYTES = 64
LANES = STEP_BYTES // 4  # 32-bit numbers of a step
RATES = 5  # numbers of a state that `sweep` is told: ω, ρ, l and two for its caller
intrinsic: Any = extending.intrinsic  # gives the first argument, the typing context, itself
LINE_BYTES = 64  # of a processor's cache
WIDEST = 512  # bytes of a row that `prefetch` asks for
ABREAST = 4  # steps whose sums `weigh` keeps side by side
BATCH = 3  # events that may wait to be swept with a later one, as `heads.learn_moments` has it


def padded(n: int, lanes: int = LANES) -> int:
    """n rounded up to whole steps."""
    return -(-n // lanes) * lanes


class _Emit:
    """Writes the instructions of one loop over rows."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        self.context, self.builder, self.types, self.values = context, builder, signature.args, values
        dtype = signature.args[0].dtype
        self.lanes, self.bytes = STEP_BYTES * 8 // dtype.bitwidth, dtype.bitwidth // 8
        self.vector = ir.VectorType(context.get_data_type(dtype), self.lanes)
        self.zeros = ir.Constant(self.vector, [0.0] * self.lanes)

    def row(self, at: int) -> Any:
        """Where the row begins whose array and place are the arguments `at` and `at + 1`."""
        array = self.context.make_array(self.types[at])(self.context, self.builder, self.values[at])
        return self.builder.gep(array.data, [self.values[at + 1]], inbounds=True)

    def all(self, value: Any) -> Any:
        """A number in every lane."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.IntType(32)(0))
        return self.builder.shuffle_vector(
            first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        )

    def _at(self, row: Any, i: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(row, [i], inbounds=True), self.vector.as_pointer())

    def load(self, row: Any, i: Any) -> Any:
        return self.builder.load(self._at(row, i), align=self.bytes)

    def store(self, value: Any, row: Any, i: Any) -> None:
        self.builder.store(value, self._at(row, i), align=self.bytes)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a · b + c, rounded once."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.lanes}f{8 * self.bytes}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def steps(self, n: Any) -> Any:
        """Loop over the places of the steps below n."""
        zero, step = ir.Constant(n.type, 0), ir.Constant(n.type, self.lanes)
        return cgutils.for_range_slice(self.builder, zero, n, step, inc=True)

    def halved(self, vector: Any, join: Any) -> Any:
        """One number of all lanes: one half joined with the other, again and again."""
        width = self.lanes
        while width > 1:
            width //= 2
            kind = ir.VectorType(ir.IntType(32), width)
            low, high = ir.Constant(kind, list(range(width))), ir.Constant(kind, list(range(width, 2 * width)))
            vector = join(
                self.builder.shuffle_vector(vector, vector, low), self.builder.shuffle_vector(vector, vector, high)
            )
        return self.builder.extract_element(vector, ir.IntType(32)(0))

    def total(self, vector: Any) -> Any:
        """The lanes' sum."""
        return self.halved(vector, self.builder.fadd)

    def lane(self, vector: Any, i: int) -> Any:
        """Lane i in every lane."""
        places = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [i] * self.lanes)
        return self.builder.shuffle_vector(vector, vector, places)

    def with_lane(self, vector: Any, other: Any, i: int) -> Any:
        """The vector with lane i of the other."""
        places = [self.lanes + j if j == i else j for j in range(self.lanes)]
        kind = ir.VectorType(ir.IntType(32), self.lanes)
        return self.builder.shuffle_vector(vector, other, ir.Constant(kind, places))

    def done(self) -> Any:
        return self.context.get_dummy_value()


@intrinsic
def dot(_typing: Any, a: Any, at_a: Any, b: Any, at_b: Any, n: Any) -> Any:
    """Σ aᵢbᵢ, in one sum a lane."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emit(context, builder, signature, values)
        left, right, sums = emit.row(0), emit.row(2), cgutils.alloca_once(builder, emit.vector)
        builder.store(emit.zeros, sums)
        with emit.steps(values[4]) as (i, _):
            builder.store(emit.fma(emit.load(left, i), emit.load(right, i), builder.load(sums)), sums)
        return emit.total(builder.load(sums))

    return a.dtype(a, types.intp, b, types.intp, types.intp), codegen


@intrinsic
def total(_typing: Any, a: Any, at_a: Any, n: Any) -> Any:
    """Σ aᵢ, in one sum a lane."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emit(context, builder, signature, values)
        row, sums = emit.row(0), cgutils.alloca_once(builder, emit.vector)
        builder.store(emit.zeros, sums)
        with emit.steps(values[2]) as (i, _):
            builder.store(builder.fadd(builder.load(sums), emit.load(row, i)), sums)
        return emit.total(builder.load(sums))

    return a.dtype(a, types.intp, types.intp), codegen


@intrinsic
def least(_typing: Any, a: Any, at_a: Any, n: Any) -> Any:
    """The least of the first n, which are numbers or +∞."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emit(context, builder, signature, values)
        row, low = emit.row(0), cgutils.alloca_once(builder, emit.vector)
        builder.store(ir.Constant(emit.vector, [float("inf")] * emit.lanes), low)

        def less(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", a, b), a, b)

        with emit.steps(values[2]) as (i, _):
            builder.store(less(emit.load(row, i), builder.load(low)), low)
        return emit.halved(builder.load(low), less)

    return a.dtype(a, types.intp, types.intp), codegen


@intrinsic
def add(_typing: Any, y: Any, at_y: Any, x: Any, at_x: Any, b: Any, n: Any) -> Any:
    """y ← y + b x."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emit(context, builder, signature, values)
        into, of, factor = emit.row(0), emit.row(2), emit.all(values[4])
        with emit.steps(values[5]) as (i, _):
            emit.store(emit.fma(factor, emit.load(of, i), emit.load(into, i)), into, i)
        return emit.done()

    return types.void(y, types.intp, x, types.intp, y.dtype, types.intp), codegen


@intrinsic
def decay_add(_typing: Any, y: Any, at_y: Any, a: Any, x: Any, at_x: Any, b: Any, n: Any) -> Any:
    """y ← a y + b x."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emit(context, builder, signature, values)
        into, keep, of, factor = emit.row(0), emit.all(values[2]), emit.row(3), emit.all(values[5])
        with emit.steps(values[6]) as (i, _):
            emit.store(emit.fma(factor, emit.load(of, i), builder.fmul(keep, emit.load(into, i))), into, i)
        return emit.done()

    return types.void(y, types.intp, y.dtype, x, types.intp, y.dtype, types.intp), codegen


class _Swept(NamedTuple):
    """One of the states that are swept side by side: pointers to S, r and w; ω of each event; ρ and the level; room for
    a block's ωx of each event and δ, and its r."""

    matrix: Any
    rest: Any
    weights: Any
    push: list[Any]
    ridge: Any
    level: Any
    pushed: list[Any]
    moved: Any
    here: Any


class _Sweep:
    """Writes `sweep`, of one state or of several side by side. inputs: x of each event"""

    def __init__(self, emit: _Emit, states: list[_Swept], inputs: list[Any], width: Any) -> None:
        self.emit, self.builder, self.states, self.inputs, self.width = emit, emit.builder, states, inputs, width

    def number(self, value: int) -> Any:
        return ir.Constant(self.width.type, value)

    def line(self, state: _Swept, row: Any) -> Any:
        """A row of S."""
        return self.builder.gep(state.matrix, [self.builder.mul(row, self.width)], inbounds=True)

    def risen(self, row: Any, place: Any, factors: list[Any], xs: list[Any]) -> Any:
        """A step of a row of S with what is new; stored."""
        new = self.emit.load(row, place)
        for factor, x in zip(factors, xs, strict=True):
            new = self.emit.fma(factor, x, new)
        self.emit.store(new, row, place)
        return new

    def diagonal(self, state: _Swept, first: Any, rows: Any) -> Any:
        builder, out = self.builder, ir.Constant(self.emit.vector, ir.Undefined)
        last = builder.sub(rows, self.number(1))
        for i in range(self.emit.lanes):
            at = builder.select(builder.icmp_signed("<", self.number(i), rows), self.number(i), last)
            at = builder.add(first, at)
            cell = builder.gep(self.line(state, at), [at], inbounds=True)
            out = builder.insert_element(out, builder.load(cell), ir.IntType(32)(i))
        return out

    def cross(self, first: Any, rows: Any) -> None:
        """A block's rows in its own columns: one weight after another, all states at once."""
        emit, builder = self.emit, self.builder
        xs = [emit.load(inputs, first) for inputs in self.inputs]
        one, kept = ir.Constant(emit.vector, [1.0] * emit.lanes), []
        for state in self.states:
            w, ridge, level = emit.load(state.weights, first), emit.all(state.ridge), emit.all(state.level)
            wx = [builder.fmul(emit.all(push), x) for push, x in zip(state.push, xs, strict=True)]
            cells = self.diagonal(state, first, rows)
            for pushed, x in zip(wx, xs, strict=True):
                cells = emit.fma(pushed, x, cells)
            inverse = builder.fdiv(one, emit.fma(level, cells, ridge))
            drag = builder.fneg(builder.fmul(builder.fmul(ridge, w), inverse))
            taken = cgutils.alloca_once(builder, emit.vector)
            for pushed, room in zip(wx, state.pushed, strict=True):
                builder.store(pushed, room)
            builder.store(emit.zeros, taken)
            builder.store(emit.load(state.rest, first), state.here)
            kept.append((w, wx, builder.fmul(level, inverse), drag, taken))
        done = builder.append_basic_block("swept")
        for i in range(emit.lanes):
            go = builder.append_basic_block(f"weight{i}")
            builder.cbranch(builder.icmp_signed("<", self.number(i), rows), go, done)
            builder.position_at_end(go)
            for state, (_, wx, inverse, drag, taken) in zip(self.states, kept, strict=True):
                now = builder.load(state.here)
                step = emit.lane(emit.fma(now, inverse, drag), i)
                row = self.line(state, builder.add(first, self.number(i)))
                new = self.risen(row, first, [emit.lane(pushed, i) for pushed in wx], xs)
                builder.store(emit.fma(builder.fneg(step), new, now), state.here)
                builder.store(emit.with_lane(builder.load(taken), step, i), taken)
        builder.branch(done)
        builder.position_at_end(done)
        for state, (w, _, _, _, taken) in zip(self.states, kept, strict=True):
            steps = builder.load(taken)
            builder.store(steps, state.moved)
            emit.store(builder.load(state.here), state.rest, first)
            emit.store(builder.fadd(w, steps), state.weights, first)

    def beside(self, first: Any, rows: Any, start: Any, stop: Any) -> None:
        """A block's rows in the columns from start to stop."""
        emit, builder = self.emit, self.builder
        each = emit.vector.element.as_pointer()
        with cgutils.for_range_slice(builder, start, stop, self.number(emit.lanes), inc=True) as (place, _):
            xs = [emit.load(inputs, place) for inputs in self.inputs]
            for state in self.states:
                builder.store(emit.load(state.rest, place), state.here)
            with cgutils.for_range(builder, rows) as loop:
                for state in self.states:
                    *factors, step = (
                        emit.all(builder.load(builder.gep(builder.bitcast(room, each), [loop.index], inbounds=True)))
                        for room in (*state.pushed, state.moved)
                    )
                    new = self.risen(self.line(state, builder.add(first, loop.index)), place, factors, xs)
                    builder.store(emit.fma(builder.fneg(step), new, builder.load(state.here)), state.here)
            for state in self.states:
                emit.store(builder.load(state.here), state.rest, place)

    def alone(self, row: Any, n: Any) -> None:
        """One weight, with its whole row."""
        emit, builder = self.emit, self.builder

        def cell(of: Any) -> Any:
            return builder.load(builder.gep(of, [row], inbounds=True))

        moves = []
        for state in self.states:
            line, w = self.line(state, row), cell(state.weights)
            total, factors = cell(line), []
            for push, inputs in zip(state.push, self.inputs, strict=True):
                x = cell(inputs)
                factors.append(builder.fmul(push, x))
                total = builder.fadd(total, builder.fmul(factors[-1], x))
            drag = builder.fmul(state.ridge, w)
            force = builder.fsub(builder.fmul(state.level, cell(state.rest)), drag)
            step = builder.fdiv(force, builder.fadd(builder.fmul(state.level, total), state.ridge))
            builder.store(builder.fadd(w, step), builder.gep(state.weights, [row], inbounds=True))
            moves.append((line, [emit.all(factor) for factor in factors], emit.all(builder.fneg(step))))
        with emit.steps(n) as (place, _):
            xs = [emit.load(inputs, place) for inputs in self.inputs]
            for state, (line, factors, back) in zip(self.states, moves, strict=True):
                new = self.risen(line, place, factors, xs)
                emit.store(emit.fma(back, new, emit.load(state.rest, place)), state.rest, place)

    def write(self, count: Any, others: Any, more: Any, n: Any) -> None:
        builder, lanes, zero = self.builder, self.number(self.emit.lanes), self.number(0)
        with cgutils.for_range_slice(builder, zero, count, lanes, inc=True) as (first, _):
            left = builder.sub(count, first)
            rows = builder.select(builder.icmp_signed("<", left, lanes), left, lanes)
            self.cross(first, rows)
            self.beside(first, rows, builder.add(first, lanes), n)
            self.beside(first, rows, zero, first)
        with cgutils.for_range(builder, more) as loop:
            self.alone(builder.load(builder.gep(others, [loop.index], inbounds=True)), n)


def _sweep(states: int, batch: int) -> Any:
    """The signature and the code of `sweep` for so many states, and events that have waited."""

    def typed(s: Any, r: Any, w: Any, x: Any, rate: Any, others: Any, *waited: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            emit = _Emit(context, builder, signature, values)
            matrix, rest, weights, rates = emit.row(0), emit.row(2), emit.row(4), emit.row(7)

            def data(at: int) -> Any:
                return context.make_array(signature.args[at])(context, builder, values[at]).data

            inputs = [data(6)]
            width, height, count, more, n = values[9], values[10], values[11], values[13], values[14]
            if batch:
                before, kept, long = data(15), emit.row(16), values[18]
                places = (builder.mul(long, ir.Constant(n.type, i)) for i in range(batch))
                inputs = [*(builder.gep(before, [at], inbounds=True) for at in places), *inputs]

            def number(of: Any, at: int) -> Any:
                return builder.load(builder.gep(of, [ir.Constant(n.type, at)], inbounds=True))

            def state(i: int) -> _Swept:
                this = ir.Constant(n.type, i)
                area, line = builder.mul(builder.mul(height, width), this), builder.mul(width, this)
                push, ridge, level = (number(rates, RATES * i + j) for j in range(3))
                pushes = [*(number(kept, batch * i + j) for j in range(batch)), push]
                places = zip((matrix, rest, weights), (area, line, line), strict=True)
                s, r, w = (builder.gep(row, [at], inbounds=True) for row, at in places)
                *pushed, moved, here = (cgutils.alloca_once(builder, emit.vector) for _ in range(len(pushes) + 2))
                return _Swept(s, r, w, pushes, ridge, level, pushed, moved, here)

            _Sweep(emit, [state(i) for i in range(states)], inputs, width).write(count, data(12), more, n)
            return emit.done()

        at = types.intp
        waiting = [waited[0], waited[1], at, at] if batch else []
        return types.void(s, at, r, at, w, at, x, rate, at, at, at, at, others, at, at, *waiting), codegen

    return typed


@intrinsic
def sweep(
    _typing: Any, s: Any, at_s: Any, r: Any, at_r: Any, w: Any, at_w: Any, x: Any, rate: Any, at_rate: Any, width: Any,
    height: Any, count: Any, others: Any, more: Any, n: Any,
) -> Any:  # fmt: skip
    """S ← S + ωxxᵀ and, weight after weight, one exact step δ of each: wᵢ ← wᵢ + δ, r ← r − δ Sᵢ.

    δ = (l rᵢ − ρwᵢ)/(l Sᵢᵢ + ρ): what S and r stand for is l times what is stored, so that they decay without being
    touched. Weights that are not swept have x = 0, and their rows of S stay as they are. Each step needs the one
    before, so as little as can be stands on the way from one to the next: a block of weights is swept in registers,
    with the part of S where its rows cross its columns; its rows' other columns follow all at once.

    s: rows at a distance of `width`, room for `height` of them, of which the first `count` are swept and then the
    first `more` of `others` (int64); rate: ω, ρ, l (RATES numbers a state); x begins at its first place
    """
    return _sweep(1, 0)(s, r, w, x, rate, others)


@intrinsic
def sweep_two(
    _typing: Any, s: Any, at_s: Any, r: Any, at_r: Any, w: Any, at_w: Any, x: Any, rate: Any, at_rate: Any, width: Any,
    height: Any, count: Any, others: Any, more: Any, n: Any,
) -> Any:  # fmt: skip
    """`sweep` of two states that follow each other in memory: one keeps the processor busy while the other waits."""
    return _sweep(2, 0)(s, r, w, x, rate, others)


@intrinsic
def sweep_batch(
    _typing: Any, s: Any, at_s: Any, r: Any, at_r: Any, w: Any, at_w: Any, x: Any, rate: Any, at_rate: Any, width: Any,
    height: Any, count: Any, others: Any, more: Any, n: Any, before: Any, kept: Any, at_kept: Any, long: Any,
) -> Any:  # fmt: skip
    """`sweep` with the BATCH events before x, which S does not know yet: S is read and written once for all of them.

    before: their inputs, rows at a distance of `long`; kept: BATCH numbers a state, ω of each (0: there is no such one)
    """
    return _sweep(1, BATCH)(s, r, w, x, rate, others, before, kept)


@intrinsic
def sweep_two_batch(
    _typing: Any, s: Any, at_s: Any, r: Any, at_r: Any, w: Any, at_w: Any, x: Any, rate: Any, at_rate: Any, width: Any,
    height: Any, count: Any, others: Any, more: Any, n: Any, before: Any, kept: Any, at_kept: Any, long: Any,
) -> Any:  # fmt: skip
    """`sweep_batch` of two states that follow each other in memory."""
    return _sweep(2, BATCH)(s, r, w, x, rate, others, before, kept)


@intrinsic
def weigh(
    _typing: Any, y: Any, at_y: Any, x: Any, at_x: Any, rows: Any, at_rows: Any, count: Any, width: Any, n: Any
) -> Any:
    """y ← y + Σⱼ xⱼ · row j, over `count` rows at a distance of `width`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emit = _Emit(context, builder, signature, values)
        into, of, row, (count, width, n) = emit.row(0), emit.row(2), emit.row(4), values[6:]
        lanes = ir.Constant(n.type, emit.lanes)

        def block(place: Any, steps: int) -> None:
            places = [builder.add(place, ir.Constant(n.type, s * emit.lanes)) for s in range(steps)]
            sums = [cgutils.alloca_once_value(builder, emit.zeros) for _ in places]
            for at, total in zip(places, sums, strict=True):
                builder.store(emit.load(into, at), total)
            with cgutils.for_range(builder, count) as loop:
                factor = emit.all(builder.load(builder.gep(of, [loop.index], inbounds=True)))
                here = builder.gep(row, [builder.mul(loop.index, width)], inbounds=True)
                for at, total in zip(places, sums, strict=True):
                    builder.store(emit.fma(factor, emit.load(here, at), builder.load(total)), total)
            for at, total in zip(places, sums, strict=True):
                emit.store(builder.load(total), into, at)

        wide = builder.mul(lanes, ir.Constant(n.type, ABREAST))
        whole = builder.sub(n, builder.srem(n, wide))
        with cgutils.for_range_slice(builder, ir.Constant(n.type, 0), whole, wide, inc=True) as (place, _):
            block(place, ABREAST)
        with cgutils.for_range_slice(builder, whole, n, lanes, inc=True) as (place, _):
            block(place, 1)
        return emit.done()

    return types.void(y, types.intp, x, types.intp, rows, *[types.intp] * 4), codegen


@intrinsic
def prefetch(_typing: Any, groups: Any, row: Any) -> Any:
    """Ask for a row of each array, of a tuple of tuples of arrays, so that it is in the cache when it is needed.

    Of wide rows (more than WIDEST bytes), which are histograms and seasons, one place is needed: they are left out.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_write, near, data = number(1), number(3), number(1)

        def each(of: Any, value: Any) -> None:
            if hasattr(of, "types"):  # a tuple
                for i, inside in enumerate(of.types):
                    each(inside, builder.extract_value(value, i))
                return
            array = context.make_array(of)(context, builder, value)
            size = cgutils.unpack_tuple(builder, array.strides)[0]
            first = builder.gep(builder.bitcast(array.data, pointer), [builder.mul(size, values[1])])
            zero, line = ir.Constant(size.type, 0), ir.Constant(size.type, LINE_BYTES)
            end = builder.select(builder.icmp_signed("<=", size, ir.Constant(size.type, WIDEST)), size, zero)
            with cgutils.for_range_slice(builder, zero, end, line, inc=True) as (at, _):
                builder.call(ask, [builder.gep(first, [at]), to_write, near, data])

        each(signature.args[0], values[0])
        return context.get_dummy_value()

    return types.void(groups, types.intp), codegen
