// What a client has read, by partition.
#pragma once
#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "library.hpp"
#include "messages.hpp"

namespace ssm::client {

// What one call of `Reading.read` has of one partition, in the order of its offsets.
struct Part {
    int partition;
    std::unique_ptr<Messages> messages;
    struct Event { int code; std::string text; };
    std::vector<Event> events;  // of the client: an error, or the partition's end
    bool ends = false;          // the last of all is such an event
    i64 end = -1;               // the offset of the last event: at a partition's end, the next that is fetched
};

class Sorting {
  public:
    Sorting(const Library& l, Handle* handle, i64 most) : l_(l), handle_(handle), left_(most) {}

    bool full() const { return left_ <= 0; }
    std::vector<Part>& parts() { return parts_; }

    // Takes an event over, and with it its message. waiting: about as many wait, with it
    void put(Event* event, i64 waiting) {
        waiting_ = waiting;
        if (const Message* message = l_.event_message_next(event)) put(*message);
        else {
            Place* place = l_.event_topic_partition(event);
            const char* text = l_.event_error_string(event);
            put({l_.event_error(event), text ? text : ""}, place ? place->partition : NO_PARTITION, place ? place->offset : -1);
            if (place) l_.topic_partition_destroy(place);
        }
        l_.event_destroy(event);
    }

    // Takes all that waits in a queue, as far as there is room.
    void put_all(Queue* queue, i64 waiting) {
        waiting_ = waiting;
        l_.consume_callback_queue(queue, 0, [](Message* message, void* own) { static_cast<Sorting*>(own)->receive(*message); }, this);
        if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
    }

  private:
    void receive(const Message& message) {
        try {
            if (!message.err) put(message);
            else {
                const char* text = l_.message_errstr(&message);
                put({message.err, text ? text : ""}, message.topic ? message.partition : NO_PARTITION, message.offset);
            }
        } catch (...) {  // which the client cannot pass on
            failed_ = std::current_exception();
        }
        if (full() || failed_) l_.yield(handle_);
    }

    void put(const Message& message) {
        Part& part = part_of(message.partition);
        if (part.messages && message.offset <= part.messages->all.back().offset) return;  // a second time: see `unread`
        if (!part.messages) {
            part.messages = std::make_unique<Messages>(message.partition);
            const auto expected = static_cast<std::size_t>(std::clamp<i64>(waiting_, 1, left_));
            part.messages->reserve(expected, expected * (message.len + message.key_len));
        }
        keep(message, *part.messages);
        part.ends = false;
        --left_, --waiting_;
    }

    void put(Part::Event event, int partition, i64 offset) {
        Part& part = part_of(partition);
        part.events.push_back(std::move(event));
        part.end = offset;
        part.ends = true;
        --left_;
    }

    Part& part_of(int partition) {
        for (std::size_t k = parts_.size(); k-- > 0;)
            if (parts_[k].partition == partition) return parts_[k];
        return parts_.emplace_back(Part{partition, nullptr, {}});
    }

    void keep(const Message& from, Messages& to) {
        Messages::One one{};
        one.key = to.keep(from.key, from.key_len);
        one.value = to.keep(from.payload, from.len);
        one.offset = from.offset;
        one.timestamp = l_.message_timestamp(&from, &one.timestamp_type);
        Headers* headers = nullptr;
        if (!l_.message_headers(&from, &headers)) {
            const char* name;
            const void* value;
            std::size_t size;
            for (std::size_t i = 0; !l_.header_get_all(headers, i, &name, &value, &size); ++i)
                to.headers.push_back({to.keep(name, std::char_traits<char>::length(name)), to.keep(value, size)});
        }
        one.headers = to.headers.size();
        to.longest = std::max(to.longest, one.value.size);
        to.all.push_back(one);
    }

    const Library& l_;
    Handle* handle_;
    i64 left_, waiting_ = 0;
    std::vector<Part> parts_;
    std::exception_ptr failed_;
};

}  // namespace ssm::client
