// `silence.hpp` as Python calls it.
#include "silence.hpp"

namespace ssm {

void bind_silence(nb::module_& m) {
    using silence::Silence;
    nb::class_<Silence>(m, "Silence").def(nb::init<>()).def("run", &Silence::run).def("reset", nb::overload_cast<nb::handle, i64>(&Silence::reset));
    m.def("silence_sizes", [] { return nb::make_tuple(silence::ENTITY, silence::COLUMN, silence::SOURCE, silence::ALL_LENGTHS); });
}

}  // namespace ssm
