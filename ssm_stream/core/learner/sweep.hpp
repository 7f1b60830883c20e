// The Gauss–Seidel sweep: S ← S + ωxxᵀ and, weight after weight, one exact step δ of each: wᵢ ← wᵢ + δ, r ← r − δ Sᵢ.
//
// δ = (l rᵢ − ρwᵢ)/(l Sᵢᵢ + ρ): what S and r stand for is l times what is stored, so that they decay without being touched.
// Weights that are not swept have x = 0, and their rows of S stay as they are. Each step needs the one before, so as little
// as can be stands on the way from one to the next: a block of weights is swept in registers, with the part of S where its
// rows cross its columns; its rows' other columns follow all at once.
#pragma once
#include "../sizes.hpp"

namespace ssm::SSM_ISA {

constexpr i64 FEW_WAIT = 3;  // events that wait in a small pool, at most: of up to 39 entities

// The states that are swept side by side, one keeping the processor busy while the other waits: they follow each other in
// memory. S (states, height, width), R, W (states, width); rate (states, RATES). Or states share the one S and its rate.
template <class T> struct Swept {
    T *S, *R, *W;
    i64 width, height;
    const T* rate;
    const T *batch, *kept;  // (BATCH, width), (states, BATCH): inputs and ω of the events that have waited
};
// Which weights: the first `count`, then the first `more` of `others`; n: whole vectors in use
struct Chosen { i64 count; const i64* others; i64 more, n; };

// STATES side by side, with EVENTS: those that have waited, and x; or none, if S has them already. SHARED: they have one S, and
// differ by R and W
template <class T, int STATES, int EVENTS, bool SHARED> struct Sweep {
    using V = Vec<T>;
    static constexpr i64 L = lanes<T>;
    static constexpr int EACH = int(L) / PARTS;          // lanes of a register
    static constexpr int ABREAST = PARTS == 1 ? 3 : 1;   // vectors of a row that registers have room for

    static constexpr int MOMENTS = SHARED ? 1 : STATES;  // how many S there are
    static constexpr int of(int s) { return SHARED ? 0 : s; }

    T *S[MOMENTS], *R[STATES], *W[STATES];
    static constexpr int ROOM = EVENTS > 0 ? EVENTS : 1;
    T push[MOMENTS][ROOM], ridge[MOMENTS], level[MOMENTS];
    const T* x[ROOM];
    i64 width;
    alignas(64) T pushed[MOMENTS][ROOM][L], moved[STATES][L], back[STATES][L];  // ωx of a block, δ and −δ of its weights

    SSM_INLINE T* line(int m, i64 row) const { return S[m] + row * width; }

    // A block's rows in its own columns.
    SSM_INLINE void cross(i64 first, i64 rows) {
        V xs[ROOM], here[STATES], inverse[MOMENTS], drag[STATES], w[STATES], part[MOMENTS];
        repeat<EVENTS>([&](auto b) SSM_STEP { xs[b] = load(x[b] + first); });
        repeat<MOMENTS>([&](auto m) SSM_STEP {
            alignas(64) T diagonal[L];
            const T* cell = line(m, first) + first;
            for (i64 i = 0; i < L; ++i) {  // the last one again beyond the rows
                diagonal[i] = *cell;
                cell += i + 1 < rows ? width + 1 : 0;
            }
            V cells = load(diagonal);
            repeat<EVENTS>([&](auto b) SSM_STEP {
                const V p = all(push[m][b]) * xs[b];
                store(pushed[m][b], p);
                cells = fma(p, xs[b], cells);
            });
            part[m] = all(T(1)) / fma(all(level[m]), cells, all(ridge[m]));
            inverse[m] = all(level[m]) * part[m];
        });
        repeat<STATES>([&](auto s) SSM_STEP {
            w[s] = load(W[s] + first);
            drag[s] = -((all(ridge[of(s)]) * w[s]) * part[of(s)]);
            here[s] = load(R[s] + first);
            store(moved[s], V{});
        });
        // One weight after another, all states at once. The lane of a weight is known to the compiler.
        [&]<int... I>(std::integer_sequence<int, I...>) SSM_STEP {
            (void)((I < rows && (weight<I>(first, xs, here, inverse, drag), true)) && ...);
        }(std::make_integer_sequence<int, int(L)>{});
        repeat<STATES>([&](auto s) SSM_STEP {
            const V steps = load(moved[s]);
            store(R[s] + first, here[s]);
            store(W[s] + first, w[s] + steps);
            store(back[s], -steps);
        });
    }
    template <int I> SSM_INLINE void weight(i64 first, const V* xs, V* here, const V* inverse, const V* drag) {
        V next[MOMENTS];
        repeat<MOMENTS>([&](auto m) SSM_STEP {
            T* row = line(m, first + I) + first;
            next[m] = load(row);
            repeat<EVENTS>([&](auto b) SSM_STEP { next[m] = fma(all(pushed[m][b][I]), xs[b], next[m]); });
            if constexpr (EVENTS > 0) store(row, next[m]);
        });
        repeat<STATES>([&](auto s) SSM_STEP {
            const auto step = fma(part<I / EACH>(here[s]), part<I / EACH>(inverse[of(s)]), part<I / EACH>(drag[s]));
            const auto lane = spread<I % EACH>(step);
            moved[s][I] = lane[0];
            here[s] = fma(same<T>(-lane), next[of(s)], here[s]);
        });
    }

    // A block's rows in so many vectors of other columns.
    template <int PLACES> SSM_INLINE void column(i64 rows, i64 first, i64 place) {
        V xs[PLACES][ROOM], here[STATES][PLACES];
        T* line_of[MOMENTS];
        repeat<PLACES>([&](auto q) SSM_STEP {
            repeat<EVENTS>([&](auto b) SSM_STEP { xs[q][b] = load(x[b] + place + q * L); });
            repeat<STATES>([&](auto s) SSM_STEP { here[s][q] = load(R[s] + place + q * L); });
        });
        repeat<MOMENTS>([&](auto m) SSM_STEP { line_of[m] = line(m, first) + place; });
        for (i64 i = 0; i < rows; ++i)
            repeat<MOMENTS>([&](auto m) SSM_STEP {
                repeat<PLACES>([&](auto q) SSM_STEP {
                    V next = load(line_of[m] + q * L);
                    repeat<EVENTS>([&](auto b) SSM_STEP { next = fma(all(pushed[m][b][i]), xs[q][b], next); });
                    if constexpr (EVENTS > 0) store(line_of[m] + q * L, next);
                    if constexpr (SHARED)
                        repeat<STATES>([&](auto s) SSM_STEP { here[s][q] = fma(all(back[s][i]), next, here[s][q]); });
                    else
                        here[m][q] = fma(all(back[m][i]), next, here[m][q]);
                });
                line_of[m] += width;
            });
        repeat<PLACES>([&](auto q) SSM_STEP {
            repeat<STATES>([&](auto s) SSM_STEP { store(R[s] + place + q * L, here[s][q]); });
        });
    }
    SSM_INLINE void beside(i64 first, i64 rows, i64 start, i64 stop) {
        i64 place = start;
        if constexpr (ABREAST > 1)
            for (; place + ABREAST * L <= stop; place += ABREAST * L) column<ABREAST>(rows, first, place);
        for (; place < stop; place += L) column<1>(rows, first, place);
    }

    // One weight, with its whole row.
    SSM_INLINE void alone(i64 row, i64 n) {
        for (int m = 0; m < MOMENTS; ++m) {
            T* at = line(m, row);
            T sum = at[row], factor[ROOM], step[STATES];
            for (int b = 0; b < EVENTS; ++b) {
                factor[b] = push[m][b] * x[b][row];
                sum = sum + factor[b] * x[b][row];
            }
            const int from = SHARED ? 0 : m, to = SHARED ? STATES : m + 1;
            for (int s = from; s < to; ++s) {
                const T force = level[m] * R[s][row] - ridge[m] * W[s][row];
                step[s] = force / (level[m] * sum + ridge[m]);
                W[s][row] = W[s][row] + step[s];
            }
            for (i64 i = 0; i < n; i += L) {
                V next = load(at + i);
                for (int b = 0; b < EVENTS; ++b) next = fma(all(factor[b]), load(x[b] + i), next);
                if constexpr (EVENTS > 0) store(at + i, next);
                for (int s = from; s < to; ++s) store(R[s] + i, fma(all(-step[s]), next, load(R[s] + i)));
            }
        }
    }
};

template <class T, int STATES, int EVENTS, bool SHARED> SSM_ALONE void sweep(const Swept<T>& of, const T* x, const Chosen& chosen) {
    Sweep<T, STATES, EVENTS, SHARED> one;
    one.width = of.width;
    for (int b = 0; b < EVENTS; ++b) one.x[b] = b < EVENTS - 1 ? of.batch + b * of.width : x;
    for (int s = 0; s < STATES; ++s) {
        one.R[s] = of.R + s * of.width;
        one.W[s] = of.W + s * of.width;
    }
    for (int m = 0; m < one.MOMENTS; ++m) {
        const T* rate = of.rate + m * RATES;
        one.S[m] = of.S + m * of.height * of.width;
        for (int b = 0; b < EVENTS; ++b) one.push[m][b] = b < EVENTS - 1 ? of.kept[m * BATCH + b] : rate[PUSH];
        one.ridge[m] = rate[RIDGE];
        one.level[m] = rate[LEVEL];
    }
    for (i64 first = 0; first < chosen.count; first += lanes<T>) {
        const i64 left = chosen.count - first, rows = left < lanes<T> ? left : lanes<T>;
        one.cross(first, rows);
        one.beside(first, rows, first + lanes<T>, chosen.n);
        one.beside(first, rows, 0, first);
    }
    for (i64 i = 0; i < chosen.more; ++i) one.alone(chosen.others[i], chosen.n);
}

// With the events that have waited: a small pool has few, most others as many as may wait.
template <class T, int STATES, bool SHARED> SSM_INLINE void sweep_with(const Swept<T>& of, i64 waiting, const T* x, const Chosen& chosen) {
    constexpr bool ONE = SHARED || STATES == 1;  // a state by itself does not differ
    if (waiting > FEW_WAIT) sweep<T, STATES, BATCH + 1, ONE>(of, x, chosen);
    else if (waiting > 0) sweep<T, STATES, FEW_WAIT + 1, ONE>(of, x, chosen);
    else sweep<T, STATES, 1, ONE>(of, x, chosen);
}
// The states two by two.
template <class T> SSM_INLINE void sweep_all(Swept<T> of, i64 states, i64 waiting, const T* x, const Chosen& chosen) {
    for (; states > 0; states -= 2) {
        if constexpr (sizeof(T) == 8) sweep_with<T, 2, false>(of, waiting, x, chosen);
        else if (states > 1) sweep_with<T, 2, false>(of, waiting, x, chosen);
        else sweep_with<T, 1, false>(of, waiting, x, chosen);
        of.S += 2 * of.height * of.width;
        of.R += 2 * of.width;
        of.W += 2 * of.width;
        of.rate += 2 * RATES;
        of.kept += 2 * BATCH;
    }
}
// The first state once more, with the events that S has.
template <class T> SSM_INLINE void sweep_again(const Swept<T>& of, const Chosen& chosen) { sweep<T, 1, 0, true>(of, nullptr, chosen); }
// One or two states of one S.
template <class T> SSM_INLINE void sweep_all_of_one(const Swept<T>& of, i64 states, i64 waiting, const T* x, const Chosen& chosen) {
    if (states > 1) sweep_with<T, 2, true>(of, waiting, x, chosen);
    else sweep_with<T, 1, true>(of, waiting, x, chosen);
}

}  // namespace ssm::SSM_ISA
