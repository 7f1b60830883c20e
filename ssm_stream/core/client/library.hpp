// What is used of librdkafka's public interface, in the library that the process has loaded already with confluent-kafka.
//
// Only `rdkafka.h` is relied on, which keeps its binary interface within version 2. A client made by confluent-kafka is found by the
// library's own way for others to look on: an interceptor, which a plugin may add to a configuration (`plugin.library.paths`).
#pragma once
#include <cstddef>
#include <cstdint>

namespace ssm::client {

struct Handle;  // rd_kafka_t
struct Topic;
struct Queue;
struct Headers;
struct Conf;
struct Event;

// rd_kafka_message_t
struct Message {
    int err;
    Topic* topic;
    std::int32_t partition;
    void* payload;
    std::size_t len;
    void* key;
    std::size_t key_len;
    std::int64_t offset;
    void* opaque;
};

// rd_kafka_topic_partition_t
struct Place {
    char* topic;
    std::int32_t partition;
    std::int64_t offset;
    void* metadata;
    std::size_t metadata_size;
    void* opaque;
    int err;
    void* own;
};

constexpr int TIMESTAMP_NOT_AVAILABLE = 0, PRODUCER = 0, COPY = 0x2, QUEUE_FULL = -184, NO_PARTITION = -1;

struct Library {
    int (*version)();
    int (*type)(const Handle*);
    const char* (*err2str)(int);
    int (*add_on_new)(Conf*, const char*, int (*)(Handle*, const Conf*, void*, char*, std::size_t), void*);
    int (*add_on_acknowledgement)(Handle*, const char*, int (*)(Handle*, Message*, void*), void*);
    int (*add_on_destroy)(Handle*, const char*, int (*)(Handle*, void*), void*);
    Queue* (*queue_new)(Handle*);
    void (*queue_destroy)(Queue*);
    Queue* (*queue_get_partition)(Handle*, const char*, std::int32_t);
    void (*queue_forward)(Queue*, Queue*);
    std::size_t (*queue_length)(Queue*);
    int (*consume_callback_queue)(Queue*, int, void (*)(Message*, void*), void*);
    void (*yield)(Handle*);
    const char* (*message_errstr)(const Message*);
    Event* (*queue_poll)(Queue*, int);
    const Message* (*event_message_next)(Event*);
    int (*event_error)(Event*);
    const char* (*event_error_string)(Event*);
    Place* (*event_topic_partition)(Event*);
    void (*event_destroy)(Event*);
    void (*topic_partition_destroy)(Place*);
    std::int64_t (*message_timestamp)(const Message*, int*);
    int (*message_headers)(const Message*, Headers**);
    int (*header_get_all)(const Headers*, std::size_t, const char**, const void**, std::size_t*);
    Topic* (*topic_new)(Handle*, const char*, void*);
    const char* (*topic_name)(const Topic*);
    void (*topic_destroy)(Topic*);
    int (*produce_batch)(Topic*, std::int32_t, int, Message*, int);
};

// The library that the process has loaded; nullptr: there is none, or one of another version.
const Library* library();

}  // namespace ssm::client
