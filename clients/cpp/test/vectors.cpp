// Every vector of docs/vectors is read, and written again to the same bytes: vectors FOLDER
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>

#include "formats.h"
#include "join.h"
#include "umbel.pb.h"

using namespace umbel;
using google::protobuf::FieldDescriptor;

static int failures = 0;

static void same(const std::string& what, const std::string& found, const std::string& wanted) {
    if (found == wanted) return;
    failures++;
    std::cerr << what << "\n  found  " << found << "\n  wanted " << wanted << "\n";
}

static Json vectors(const std::string& folder, const std::string& name) {
    std::ifstream file(folder + "/" + name + ".json");
    return Json::parse(file);
}

// Sets a field by its name, as the vectors give it.
static void set(google::protobuf::Message* message, const std::string& name, const Json& value) {
    auto* field = message->GetDescriptor()->FindFieldByName(name);
    auto* way = message->GetReflection();
    switch (field->type()) {
        case FieldDescriptor::TYPE_UINT32: return way->SetUInt32(message, field, value);
        case FieldDescriptor::TYPE_UINT64: return way->SetUInt64(message, field, value);
        case FieldDescriptor::TYPE_BOOL: return way->SetBool(message, field, value);
        case FieldDescriptor::TYPE_DOUBLE: return way->SetDouble(message, field, value);
        case FieldDescriptor::TYPE_BYTES: return way->SetString(message, field, unhex(value));
        default: return way->SetString(message, field, value);
    }
}

static void packets(const std::string& folder) {
    for (auto& vector : vectors(folder, "packets")) {
        std::string kind = vector["kind"];
        std::transform(kind.begin(), kind.end(), kind.begin(), ::tolower);
        v1::Packet packet, read;
        auto* field = packet.GetDescriptor()->FindFieldByName(kind);
        auto* inner = packet.GetReflection()->MutableMessage(&packet, field);
        for (auto& [name, value] : vector["fields"].items()) set(inner, name, value);
        same(kind, hex(packet.SerializeAsString()), vector["hex"]);
        read.ParseFromString(unhex(vector["hex"]));
        same(kind, read.DebugString(), packet.DebugString());
    }
}

static Json value_of(const Array& array, std::size_t i) {
    if (array.dtype == "F64") return array.items<double>()[i];
    if (array.dtype == "F32") return array.items<float>()[i];
    if (array.dtype == "I64") return array.items<std::int64_t>()[i];
    if (array.dtype == "I8") return array.items<std::int8_t>()[i];
    if (array.dtype == "BOOL") return array.items<char>()[i] != 0;
    if (array.dtype == "F16" && array.items<std::uint16_t>()[i] == 0x3e00) return 1.5;
    throw std::runtime_error("no vector has " + array.dtype);
}

static void buffers(const std::string& folder) {
    for (auto& vector : vectors(folder, "buffers")) {
        Bytes bytes = unhex(vector["hex"]);
        Arrays arrays = read_buffer(bytes);
        Json shown = Json::array();
        for (auto& array : arrays) {
            Json values = Json::array();
            for (std::size_t i = 0; i < array.data.size() / item_bytes(array.dtype); i++) values.push_back(value_of(array, i));
            shown.push_back({{"name", array.name}, {"dtype", array.dtype}, {"shape", array.shape}, {"role", array.role}, {"values", values}});
        }
        same("arrays", shown.dump(), vector["arrays"].dump());
        same("buffer", hex(write_buffer(arrays)), vector["hex"]);
        same("digest", hex(sha256(bytes)), vector["digest"]);
    }
}

static void frames(const std::string& folder) {
    for (auto& vector : vectors(folder, "frames")) {
        Frame frame = read_frame(unhex(vector["hex"]));
        same("kind", frame.kind, vector["header"]["kind"]);
        same("body", frame.body.dump(), vector["header"]["body"].dump());
        same("frame", hex(write_frame(frame)), vector["hex"]);
        if (frame.kind != "any" && frame.buffers.empty()) same("tree", write_tree(read_tree(frame.body)).dump(), frame.body.dump());
    }
    Bytes broken = unhex(vectors(folder, "frames")[0]["hex"]);
    broken[40] ^= 1;
    try {
        read_frame(broken);
        same("a damaged frame", "was read", "is refused");
    } catch (const std::runtime_error&) {
    }
}

static void conversation(const std::string& folder) {
    Json told = vectors(folder, "conversation");
    same("first bytes", unhex(told["tcp_first_bytes"]), "UMBL/1\r\n");
    for (auto& vector : told["packets"]) {
        v1::Packet packet;
        packet.ParseFromString(unhex(vector["hex"]));
        same(vector["note"], hex(packet.SerializeAsString()), vector["hex"]);
        if (packet.kind_case() == v1::Packet::KIND_NOT_SET) same(vector["note"], "no kind", "a kind");
    }
}

static void invitations(const std::string& folder) {
    for (auto& vector : vectors(folder, "invitations")) {
        std::string code = vector["code"];
        Code found = read_code(" " + code + "\n");
        same("address", found.address, vector["address"]);
        same("CA", hex(found.ca_digest), vector["ca_digest"]);
        same("secret", hex(found.secret), vector["secret"]);
        code[9] = code[9] == 'A' ? 'B' : 'A';
        try {
            read_code(code);
            same("a mistyped code", "was read", "is refused");
        } catch (const std::runtime_error&) {
        }
    }
}

int main(int count, char** words) {
    std::string folder = count > 1 ? words[1] : "../../docs/vectors";
    packets(folder);
    buffers(folder);
    frames(folder);
    conversation(folder);
    invitations(folder);
    std::cout << (failures ? "some vectors differ" : "all vectors agree") << std::endl;
    return failures != 0;
}
