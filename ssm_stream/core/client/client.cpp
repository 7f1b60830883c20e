// Reading and producing in batches, without an object of Python for each message. The client itself is confluent-kafka's: it keeps
// its settings, its callbacks and its transactions.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../json/rows.hpp"
#include "library.hpp"
#include "messages.hpp"
#include "sorting.hpp"

namespace nb = nanobind;

namespace ssm::client {
namespace {

constexpr const char* NAME = "ssm_stream";

// Messages of `Producer` that the client has given up: the first of them.
struct Failure {
    std::mutex lock;
    int code = 0;
    std::string topic;
    bool gone = false;  // the client, with all its messages
};
using Failures = std::map<Handle*, std::shared_ptr<Failure>>;

thread_local Handle* latest = nullptr;  // the client that this thread has made last
std::mutex lock;

// By client, until it is gone.
Failures& failures() {
    static Failures all;
    return all;
}

int on_acknowledgement(Handle*, Message* message, void* opaque) {
    // Those that confluent-kafka produces have an opaque of its own, and a callback.
    if (!message->err || message->opaque) return 0;
    Failure& failure = *static_cast<Failure*>(opaque);
    const std::lock_guard guard(failure.lock);
    if (!failure.code) {
        failure.code = message->err;
        failure.topic = message->topic ? library()->topic_name(message->topic) : "";
    }
    return 0;
}

int on_destroy(Handle* handle, void*) {
    const std::lock_guard guard(lock);
    const auto found = failures().find(handle);
    if (found == failures().end()) return 0;
    const std::lock_guard its(found->second->lock);
    found->second->gone = true;
    failures().erase(found);
    return 0;
}

int on_new(Handle* handle, const Conf*, void*, char*, std::size_t) {
    const Library& l = *library();
    latest = handle;
    if (l.type(handle) != PRODUCER) return 0;
    const auto failure = std::make_shared<Failure>();
    {
        const std::lock_guard guard(lock);
        failures()[handle] = failure;
    }
    l.add_on_acknowledgement(handle, NAME, &on_acknowledgement, failure.get());
    l.add_on_destroy(handle, NAME, &on_destroy, nullptr);
    return 0;
}

const Library& wanted() {
    if (const Library* found = library()) return *found;
    throw std::runtime_error("librdkafka: found none of version 2 in this process");
}

// The number by which a client made in this thread just now is used; 0: it was made without this module as its plugin.
std::uintptr_t take_latest() {
    Handle* handle = latest;
    latest = nullptr;
    return reinterpret_cast<std::uintptr_t>(handle);
}

nb::object bytes_of(const Messages& m, const Messages::Text& text) {
    if (!text.there) return nb::none();
    const std::string_view view = m.view(text);
    return nb::bytes(view.data(), view.size());
}

const Messages::One& at(const Messages& m, i64 i) {
    if (i < 0 || i >= m.size()) throw nb::index_error("messages: no such message");
    return m.all[static_cast<std::size_t>(i)];
}

template <class F> nb::object list_of(const Messages& m, F each) {
    nb::object out = nb::steal(PyList_New(m.size()));
    if (!out.is_valid()) nb::raise_python_error();
    for (i64 i = 0; i < m.size(); ++i) PyList_SET_ITEM(out.ptr(), i, each(m.all[static_cast<std::size_t>(i)]).release().ptr());
    return out;
}

nb::object headers_of(const Messages& m, i64 i) {
    const std::size_t end = at(m, i).headers;
    std::size_t k = i ? m.all[static_cast<std::size_t>(i - 1)].headers : 0;
    if (k == end) return nb::none();
    nb::list out;
    for (; k < end; ++k) {
        const std::string_view name = m.view(m.headers[k].name);
        nb::object text = nb::steal(PyUnicode_DecodeUTF8(name.data(), static_cast<Py_ssize_t>(name.size()), nullptr));
        if (!text.is_valid()) nb::raise_python_error();
        out.append(nb::make_tuple(text, bytes_of(m, m.headers[k].value)));
    }
    return out;
}

// One queue for the partitions of a consumer. The calls that return messages would serve an error as a callback of confluent-kafka,
// which ends the process where it is called from outside of a call of confluent-kafka's own: so messages are taken by a callback of
// `Sorting`, which gets the errors as well, or as events.
class Reading {
  public:
    explicit Reading(std::uintptr_t handle) : l_(wanted()), handle_(reinterpret_cast<Handle*>(handle)), queue_(l_.queue_new(handle_)) {}
    Reading(const Reading&) = delete;
    ~Reading() { close(); }

    // To be called before the partition is assigned.
    void add(const std::string& topic, int partition) {
        Queue* own = open() ? l_.queue_get_partition(handle_, topic.c_str(), partition) : nullptr;
        if (!own) throw std::runtime_error(("no queue for partition " + std::to_string(partition) + " of " + topic).c_str());
        l_.queue_forward(own, queue_);
        l_.queue_destroy(own);
    }

    // Waits up to so many ms for a message. Returns whether there is one.
    bool wait(int ms) {
        if (!open()) throw nb::value_error("wait: closed");
        nb::gil_scoped_release without;
        if (!first_) first_ = l_.queue_poll(queue_, ms);
        return first_ != nullptr;
    }

    // Up to `most` messages: the one that was waited for, and those that follow it within `linger` ms. By partition, in the order in
    // which they came: (partition, messages or None, [(code, text) of an event of the client], whether such an event came last, the offset of the last event)
    nb::list read(i64 most, int linger) {
        if (!open() || !first_ || most < 1 || most > 1'000'000) throw nb::value_error("read: closed, nothing waited for, or a number out of range");
        Sorting found(l_, handle_, most);
        {
            nb::gil_scoped_release without;
            found.put(std::exchange(first_, nullptr), waiting() + 1);
            take(found, most);
            if (!found.full() && linger > 0) {  // asleep: the client would wake this thread for each message
                std::this_thread::sleep_for(std::chrono::milliseconds(linger));
                take(found, most);
            }
        }
        std::vector<Part>& parts = found.parts();
        nb::list out;
        for (std::size_t k = 0; k < parts.size(); ++k) {
            nb::list events;
            for (const Part::Event& event : parts[k].events)
                events.append(nb::make_tuple(event.code, nb::steal(PyUnicode_DecodeUTF8(event.text.data(), static_cast<Py_ssize_t>(event.text.size()), "replace"))));
            nb::object messages = parts[k].messages ? nb::cast(std::move(parts[k].messages)) : nb::none();
            out.append(nb::make_tuple(parts[k].partition, messages, events, parts[k].ends, parts[k].end));
        }
        return out;
    }

    // Before the consumer is closed.
    void close() {
        if (Queue* queue = std::exchange(queue_, nullptr)) {
            nb::gil_scoped_release without;
            if (Event* first = std::exchange(first_, nullptr)) l_.event_destroy(first);
            l_.queue_destroy(queue);
        }
    }

  private:
    bool open() const { return queue_ != nullptr; }
    i64 waiting() const { return static_cast<i64>(l_.queue_length(queue_)); }
    // What is there already.
    void take(Sorting& found, i64 most) {
        if (found.full()) return;
        // All at once is cheapest, but the client fetches on meanwhile, as if nothing waited: not where more waits than it should hold.
        if (const i64 n = waiting(); n <= 2 * most) found.put_all(queue_, n);
        else
            for (Event* event; !found.full() && (event = l_.queue_poll(queue_, 0));) found.put(event, n);
    }

    const Library& l_;
    Handle* handle_;
    Queue* queue_;
    Event* first_ = nullptr;
};

// Produces through a client of confluent-kafka, which must outlive it.
class Producing {
  public:
    explicit Producing(std::uintptr_t handle) : l_(wanted()), handle_(reinterpret_cast<Handle*>(handle)) {
        const std::lock_guard guard(lock);
        const auto found = failures().find(handle_);
        if (found == failures().end()) throw nb::value_error("produce: no such client");
        failure_ = found->second;
    }

    // Hands over the messages [begin, end). Returns how many the client took, and its error for the first that it did not, or 0.
    // values: a list of bytes, or `json::Rows`
    std::pair<i64, int> produce(const std::string& topic, nb::list keys, nb::object values, i64 begin, i64 end) {
        {
            const std::lock_guard guard(failure_->lock);
            if (failure_->gone) throw std::runtime_error("produce: the client is closed");
        }
        const json::Rows* rows = nb::isinstance<json::Rows>(values) ? nb::cast<const json::Rows*>(values) : nullptr;
        if (!rows && !PyList_Check(values.ptr())) throw nb::type_error("produce: want a list of values, or rows");
        const i64 n = rows ? rows->size() : static_cast<i64>(PyList_GET_SIZE(values.ptr()));
        if (static_cast<i64>(keys.size()) != n || begin < 0 || begin > end || end > n) throw nb::value_error("produce: want a key a value");
        batch_.assign(static_cast<std::size_t>(end - begin), Message{});
        for (i64 i = begin; i < end; ++i) {
            Message& message = batch_[static_cast<std::size_t>(i - begin)];
            if (rows) {
                const std::string_view value = (*rows)[i];
                message.payload = const_cast<char*>(value.data()), message.len = value.size();
            } else {
                PyObject* value = PyList_GET_ITEM(values.ptr(), i);
                if (!PyBytes_Check(value)) throw nb::type_error("produce: want values of bytes");
                message.payload = PyBytes_AS_STRING(value), message.len = static_cast<std::size_t>(PyBytes_GET_SIZE(value));
            }
            Py_ssize_t size = 0;
            const char* key = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(keys.ptr(), i), &size);
            if (!key) nb::raise_python_error();
            message.key = const_cast<char*>(key), message.key_len = static_cast<std::size_t>(size);
        }
        nb::gil_scoped_release without;
        Topic* to = l_.topic_new(handle_, topic.c_str(), nullptr);
        if (!to) throw std::runtime_error(("produce: no topic " + topic).c_str());
        const i64 taken = batch_.empty() ? 0 : l_.produce_batch(to, NO_PARTITION, COPY, batch_.data(), static_cast<int>(batch_.size()));
        l_.topic_destroy(to);
        // In order: what follows one that was refused is refused as well, else it would overtake it.
        if (taken == end - begin) return {taken, 0};
        i64 good = 0;
        while (good < end - begin && !batch_[static_cast<std::size_t>(good)].err) ++good;
        return {good, good < end - begin ? batch_[static_cast<std::size_t>(good)].err : 0};
    }

    // Topic, code and text of the first message that the client has given up; None: there is none.
    nb::object failure() {
        const std::lock_guard guard(failure_->lock);
        if (!failure_->code) return nb::none();
        return nb::make_tuple(failure_->topic, failure_->code, l_.err2str(failure_->code));
    }

  private:
    const Library& l_;
    Handle* handle_;
    std::shared_ptr<Failure> failure_;
    std::vector<Message> batch_;
};

}  // namespace
}  // namespace ssm::client

// What librdkafka calls for a configuration whose `plugin.library.paths` names this module.
extern "C" __attribute__((visibility("default"))) int conf_init(ssm::client::Conf* conf, void**, char*, std::size_t) {
    using namespace ssm::client;
    const Library* l = library();
    return l ? l->add_on_new(conf, NAME, &on_new, nullptr) : 0;
}

namespace ssm {

void bind_client(nb::module_& m) {
    using namespace client;
    m.def("librdkafka_version", [] { return library() ? library()->version() : 0; });
    m.def("take_latest_client", &take_latest);
    nb::class_<Messages>(m, "Messages")
        .def("__len__", &Messages::size)
        .def_ro("partition", &Messages::partition)
        .def_ro("longest", &Messages::longest)
        .def("offset", [](const Messages& m, i64 i) { return at(m, i).offset; })
        .def("timestamp", [](const Messages& m, i64 i) { return std::pair(at(m, i).timestamp_type, at(m, i).timestamp); })
        .def("key", [](const Messages& m, i64 i) { return bytes_of(m, at(m, i).key); })
        .def("value", [](const Messages& m, i64 i) { return bytes_of(m, at(m, i).value); })
        .def("headers", &headers_of)
        .def("keys", [](const Messages& m) { return list_of(m, [&](const Messages::One& one) { return bytes_of(m, one.key); }); })
        .def("values", [](const Messages& m) { return list_of(m, [&](const Messages::One& one) { return bytes_of(m, one.value); }); })
        .def("offsets", [](const Messages& m) { return list_of(m, [](const Messages::One& one) { return nb::object(nb::int_(one.offset)); }); });
    nb::class_<Reading>(m, "Reading")
        .def(nb::init<std::uintptr_t>())
        .def("add", &Reading::add)
        .def("wait", &Reading::wait)
        .def("read", &Reading::read)
        .def("close", &Reading::close);
    nb::class_<Producing>(m, "Producing")
        .def(nb::init<std::uintptr_t>())
        .def("produce", &Producing::produce)
        .def("failure", &Producing::failure);
}

}  // namespace ssm
