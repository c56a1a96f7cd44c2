#include "formats.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <tuple>

namespace umbel {
namespace {

constexpr std::size_t SEAL_BYTES = 32, ALIGN = 64;
const std::vector<std::string> ROLES = {"trained", "averaged", "frozen", "private"};

void need(bool condition, const std::string& sentence) {
    if (!condition) throw std::runtime_error(sentence);
}

std::size_t missing(std::size_t size) { return (ALIGN - size % ALIGN) % ALIGN; }

// Numbers in headers are little endian, whatever this machine is.
std::uint64_t number_at(const Bytes& bytes, std::size_t at, int width) {
    std::uint64_t value = 0;
    for (int i = width - 1; i >= 0; i--) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

Bytes number(std::uint64_t value, int width) {
    Bytes bytes;
    for (int i = 0; i < width; i++) bytes += static_cast<char>(value >> 8 * i & 255);
    return bytes;
}

std::uint64_t header_length(const Bytes& bytes, std::size_t at) {
    need(bytes.size() >= at + 8, "the bytes end before a length; they were cut");
    std::uint64_t length = number_at(bytes, at, 8);
    need(length <= bytes.size() - at - 8, "a header is said to be longer than all bytes; they were cut or damaged");
    return length;
}

auto rank(const Array& array) {
    auto role = std::find(ROLES.begin(), ROLES.end(), array.role) - ROLES.begin();
    return std::make_tuple(-static_cast<std::int64_t>(item_bytes(array.dtype)), array.dtype, role);
}

}  // namespace

Bytes sha256(const Bytes& bytes) {
    Bytes digest(SHA256_DIGEST_LENGTH, '\0');
    SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
    return digest;
}

std::string hex(const Bytes& bytes) {
    std::string digits;
    for (unsigned char byte : bytes) digits += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    return digits;
}

Bytes unhex(const std::string& digits) {
    Bytes bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    return bytes;
}

std::string base64(const Bytes& bytes) {
    std::string text(4 * ((bytes.size() + 2) / 3), '\0');
    EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                    static_cast<int>(bytes.size()));
    return text;
}

Bytes unbase64(const std::string& text) {
    Bytes bytes(text.size() / 4 * 3 + 3, '\0');
    int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                               reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    need(size >= 0, "bytes that are no base64");
    bytes.resize(size - std::count(text.begin(), text.end(), '='));
    return bytes;
}

std::uint64_t item_bytes(const std::string& dtype) {
    static const std::map<std::string, std::uint64_t> sizes = {
        {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4}, {"U32", 4}, {"F16", 2},
        {"BF16", 2}, {"I16", 2}, {"U16", 2}, {"I8", 1}, {"U8", 1}, {"BOOL", 1}};
    auto found = sizes.find(dtype);
    need(found != sizes.end(), "there is no dtype '" + dtype + "'");
    return found->second;
}

Arrays read_buffer(const Bytes& bytes) {
    std::uint64_t length = header_length(bytes, 0), start = 8 + length;
    Json header = Json::parse(bytes.substr(8, length));
    Json roles = Json::object();
    Arrays arrays;
    for (auto& [name, entry] : header.items()) {
        if (name == "__metadata__") {
            if (entry.contains("umbel.roles")) roles = Json::parse(entry["umbel.roles"].get<std::string>());
            continue;
        }
        Array array{name, entry.at("dtype"), entry.at("shape"), roles.value(name, "trained"), {}};
        std::uint64_t begin = entry.at("data_offsets").at(0), end = entry.at("data_offsets").at(1);
        std::uint64_t size = item_bytes(array.dtype);
        for (auto side : array.shape) size *= side;
        need(begin <= end && end - begin == size && end <= bytes.size() - start,
             "array '" + name + "' does not fit its dtype and shape");
        array.data = bytes.substr(start + begin, size);
        arrays.push_back(std::move(array));
    }
    return arrays;
}

Bytes write_buffer(const Arrays& arrays) {
    std::vector<const Array*> order;
    for (auto& array : arrays) order.push_back(&array);
    std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return rank(*a) < rank(*b); });
    std::map<std::string, std::uint64_t> begins;
    Bytes data;
    for (auto* array : order) {
        begins[array->name] = data.size();
        data += array->data;
    }
    Json header = Json::object(), roles = Json::object();
    for (auto& array : arrays)
        if (array.role != "trained") roles[array.name] = array.role;
    if (!roles.empty()) header["__metadata__"]["umbel.roles"] = roles.dump();
    for (auto& array : arrays) {
        std::uint64_t begin = begins[array.name];
        header[array.name] = {{"dtype", array.dtype}, {"shape", array.shape}, {"data_offsets", {begin, begin + array.data.size()}}};
    }
    std::string text = header.dump();
    text.append(missing(8 + text.size()), ' ');
    return number(text.size(), 8) + text + data;
}

Frame read_frame(const Bytes& bytes) {
    need(bytes.size() >= 16 + SEAL_BYTES && bytes.compare(0, 4, "UMBL") == 0, "these bytes are no frame");
    need(number_at(bytes, 4, 2) == 1, "a frame of a format that this client does not read; it reads format 1");
    std::size_t sealed = bytes.size() - SEAL_BYTES;
    need(sha256(bytes.substr(0, sealed)) == bytes.substr(sealed), "a frame was damaged on its way");
    std::uint64_t length = header_length(bytes, 8);
    Json header = Json::parse(bytes.substr(16, length));
    Frame frame{header.at("kind"), header.at("body"), {}};
    std::size_t at = 16 + length;
    for (std::uint64_t size : header.at("buffers")) {
        need(at <= sealed && size <= sealed - at, "a frame has other lengths than its header says");
        frame.buffers.push_back(bytes.substr(at, size));
        at += size + missing(size);
    }
    need(at == sealed, "a frame has other lengths than its header says");
    return frame;
}

Bytes write_frame(const Frame& frame) {
    Json lengths = Json::array();
    for (auto& buffer : frame.buffers) lengths.push_back(buffer.size());
    std::string text = Json{{"kind", frame.kind}, {"body", frame.body}, {"buffers", lengths}}.dump();
    text.append(missing(16 + text.size()), ' ');
    Bytes bytes = "UMBL" + number(1, 2) + number(0, 2) + number(text.size(), 8) + text;
    for (auto& buffer : frame.buffers) bytes += buffer + Bytes(missing(buffer.size()), '\0');
    return bytes + sha256(bytes);
}

Json read_tree(const Json& node) {
    if (node.at(0) == "plain") return node.at(1);
    need(node.at(0) == "map", "a tree holds arrays where this client expects none");
    Json value = Json::object();
    for (auto& [key, item] : node.at(1).items()) value[key] = read_tree(item);
    return value;
}

Json write_tree(const Json& value) {
    // Arrays come as the pair itself.
    if (value.is_array() && value.size() == 2 && value[0] == "arrays") return value;
    Json node = Json::array();
    // Bytes and odd floats are objects, too, and plain data: their only key begins with $.
    bool special = value.is_object() && value.size() == 1 && value.begin().key().substr(0, 1) == "$";
    if (!value.is_object() || special) {
        node.push_back("plain");
        node.push_back(value);
        return node;
    }
    Json items = Json::object();
    for (auto& [key, item] : value.items()) items[key] = write_tree(item);
    node.push_back("map");
    node.push_back(items);
    return node;
}

}  // namespace umbel
