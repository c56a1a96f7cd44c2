// Buffers, frames and trees, as docs/format.md has them. Pure functions: bytes in, values out, and back.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace umbel {

using Json = nlohmann::ordered_json;
using Bytes = std::string;

struct Array {
    std::string name, dtype;
    std::vector<std::uint64_t> shape;
    std::string role = "trained";
    Bytes data;  // items in C order, little endian

    template <typename Item>
    Item* items() { return reinterpret_cast<Item*>(data.data()); }
    template <typename Item>
    const Item* items() const { return reinterpret_cast<const Item*>(data.data()); }
};
using Arrays = std::vector<Array>;

struct Frame {
    std::string kind;
    Json body;
    std::vector<Bytes> buffers;
};

Bytes sha256(const Bytes& bytes);
std::string hex(const Bytes& bytes);
Bytes unhex(const std::string& digits);
Bytes unbase64(const std::string& text);
std::string base64(const Bytes& bytes);

std::uint64_t item_bytes(const std::string& dtype);
Arrays read_buffer(const Bytes& bytes);
Bytes write_buffer(const Arrays& arrays);  // equal arrays have equal bytes
Frame read_frame(const Bytes& bytes);      // whose seal is right; throws std::runtime_error otherwise
Bytes write_frame(const Frame& frame);

// A tree without arrays: pairs ["map", …] and ["plain", …] taken away and put around. Plain data stay as JSON has them,
// {"$bytes": …} and {"$float": …} included.
Json read_tree(const Json& node);
Json write_tree(const Json& value);

}  // namespace umbel
