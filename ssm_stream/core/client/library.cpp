// Finds librdkafka among the libraries of the process.
#include "library.hpp"

#include <dlfcn.h>
#if defined(__linux__)
#include <link.h>
#endif

#include <cstring>
#include <string>

namespace ssm::client {
namespace {

#if defined(__linux__)
int look(dl_phdr_info* info, std::size_t, void* found) {
    const char* name = info->dlpi_name ? std::strrchr(info->dlpi_name, '/') : nullptr;
    name = name ? name + 1 : info->dlpi_name;
    if (!name || std::strncmp(name, "librdkafka", 10) || std::strstr(name, "++")) return 0;
    *static_cast<std::string*>(found) = info->dlpi_name;
    return 1;
}
#endif

template <class F> bool take(void* from, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(from, name));
    return function != nullptr;
}

bool load(Library& l) {
    std::string path;
#if defined(__linux__)
    dl_iterate_phdr(&look, &path);
#endif
    void* from = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    return from && take(from, "rd_kafka_version", l.version) && l.version() >> 24 == 2 && take(from, "rd_kafka_type", l.type) &&
           take(from, "rd_kafka_err2str", l.err2str) && take(from, "rd_kafka_conf_interceptor_add_on_new", l.add_on_new) &&
           take(from, "rd_kafka_interceptor_add_on_acknowledgement", l.add_on_acknowledgement) &&
           take(from, "rd_kafka_interceptor_add_on_destroy", l.add_on_destroy) && take(from, "rd_kafka_queue_new", l.queue_new) &&
           take(from, "rd_kafka_queue_destroy", l.queue_destroy) && take(from, "rd_kafka_queue_get_partition", l.queue_get_partition) &&
           take(from, "rd_kafka_queue_forward", l.queue_forward) && take(from, "rd_kafka_queue_length", l.queue_length) &&
           take(from, "rd_kafka_consume_callback_queue", l.consume_callback_queue) && take(from, "rd_kafka_yield", l.yield) &&
           take(from, "rd_kafka_message_errstr", l.message_errstr) && take(from, "rd_kafka_queue_poll", l.queue_poll) &&
           take(from, "rd_kafka_event_message_next", l.event_message_next) &&
           take(from, "rd_kafka_event_error", l.event_error) && take(from, "rd_kafka_event_error_string", l.event_error_string) &&
           take(from, "rd_kafka_event_topic_partition", l.event_topic_partition) && take(from, "rd_kafka_event_destroy", l.event_destroy) &&
           take(from, "rd_kafka_topic_partition_destroy", l.topic_partition_destroy) &&
           take(from, "rd_kafka_message_timestamp", l.message_timestamp) &&
           take(from, "rd_kafka_message_headers", l.message_headers) && take(from, "rd_kafka_header_get_all", l.header_get_all) &&
           take(from, "rd_kafka_topic_new", l.topic_new) &&
           take(from, "rd_kafka_topic_name", l.topic_name) && take(from, "rd_kafka_topic_destroy", l.topic_destroy) &&
           take(from, "rd_kafka_produce_batch", l.produce_batch);
}

}  // namespace

const Library* library() {
    static Library functions{};
    static const bool loaded = load(functions);
    return loaded ? &functions : nullptr;
}

}  // namespace ssm::client
