#include "join.h"

#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>

#include "stream.h"

namespace umbel {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;

// The checksum of ZIP files.
std::uint32_t crc32(const Bytes& bytes) {
    std::uint32_t sum = 0xffffffff;
    for (unsigned char byte : bytes) {
        sum ^= byte;
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

std::string text_of(BIO* bio) {
    char* start = nullptr;
    long size = BIO_get_mem_data(bio, &start);
    return {start, static_cast<std::size_t>(size)};
}

Memory memory() { return {BIO_new(BIO_s_mem()), BIO_free}; }
Memory memory(const std::string& text) { return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free}; }

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// In one piece, for this user only.
void write_file(const std::string& path, const std::string& text) {
    std::string part = path + ".part";
    unlink(part.c_str());
    int file = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool fine = file >= 0 && write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && !fsync(file);
    if (file >= 0) close(file);
    if (!fine || rename(part.c_str(), path.c_str())) throw std::runtime_error("cannot write " + path);
}

std::string new_key() {
    Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    Memory out = memory();
    PEM_write_bio_PKCS8PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return text_of(out.get());
}

std::string request_for(const std::string& key_pem, const std::string& name) {
    Memory in = memory(key_pem), out = memory();
    Key key(PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
    std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(X509_REQ_new(), X509_REQ_free);
    X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request.get()), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_REQ_set_pubkey(request.get(), key.get());
    if (!key || !X509_REQ_sign(request.get(), key.get(), EVP_sha256())) throw std::runtime_error("cannot sign a request for " + name);
    PEM_write_bio_X509_REQ(out.get(), request.get());
    return text_of(out.get());
}

// The first certificate in `pem`, written anew, and its SHA-256.
std::pair<std::string, Bytes> certificate_in(const std::string& pem) {
    Memory in = memory(pem), out = memory();
    std::unique_ptr<X509, decltype(&X509_free)> found(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr), X509_free);
    if (!found) throw std::runtime_error("what the server calls its CA is no certificate");
    PEM_write_bio_X509(out.get(), found.get());
    unsigned char* der = nullptr;
    int size = i2d_X509(found.get(), &der);
    Bytes bytes(reinterpret_cast<char*>(der), size);
    OPENSSL_free(der);
    return {text_of(out.get()), sha256(bytes)};
}

}  // namespace

Code read_code(const std::string& code) {
    static const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    Bytes data;
    std::uint32_t bits = 0;
    int held = 0;
    for (unsigned char letter : code) {
        if (std::isspace(letter)) continue;
        std::size_t value = alphabet.find(static_cast<char>(std::toupper(letter)));
        if (value == std::string::npos) throw std::runtime_error("an invitation code has letters and the digits 2 to 7; copy it again");
        bits = bits << 5 | static_cast<std::uint32_t>(value);
        if ((held += 5) >= 8) data += static_cast<char>(bits >> (held -= 8) & 255);
    }
    constexpr std::size_t head = 1 + 16 + 32;
    std::uint32_t sum = 0;
    if (data.size() > head + 4)
        for (int i = 3; i >= 0; i--) sum = sum << 8 | static_cast<unsigned char>(data[data.size() - 4 + i]);
    if (data.size() <= head + 4 || crc32(data.substr(0, data.size() - 4)) != sum)
        throw std::runtime_error("this invitation code is mistyped or not complete; copy it again");
    if (data[0] != 1) throw std::runtime_error("this invitation code is of a format that this client does not read; update it");
    return {data.substr(1, 16), data.substr(17, 32), data.substr(head, data.size() - head - 4)};
}

std::pair<std::string, std::string> host_and_port(std::string address) {
    if (address.compare(0, 6, "tcp://") == 0) address.erase(0, 6);
    std::size_t colon = address.rfind(':');
    if (colon == std::string::npos) throw std::runtime_error("an address is host:port, got " + address);
    std::string host = address.substr(0, colon);
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    return {host, address.substr(colon + 1)};
}

Identity join(const std::string& code, const std::string& name, const std::string& folder) {
    Code held = read_code(code);
    Identity identity{"", "", "", name, held.address};
    auto [ca_pem, digest] = certificate_in(ask(identity, held.address, "/v1/ca", Json(), false).at("ca"));
    // Whoever answered: the digest in the code, and nothing else, says that this is the right CA.
    if (digest != held.ca_digest) throw std::runtime_error("another server answers at " + held.address + "; its CA is not the one of this code");
    identity.ca_pem = ca_pem;
    mkdir(folder.c_str(), 0700);
    // The key is kept before it is spoken of: the server takes the code once, and for this key again.
    std::string pending = folder + "/joining.key", key_pem = read_file(pending);
    if (key_pem.empty()) write_file(pending, key_pem = new_key());
    Json body = {{"secret", base64(held.secret)}, {"name", name}, {"csr", request_for(key_pem, name)}};
    identity.certificate_pem = ask(identity, held.address, "/v1/enroll", body, true).at("certificate");
    identity.key_pem = key_pem;
    Json kept = {{"format", 1}, {"ca_pem", ca_pem}, {"certificate_pem", identity.certificate_pem},
                 {"key_pem", key_pem}, {"name", name}, {"address", held.address}};
    write_file(folder + "/identity.json", kept.dump());
    unlink(pending.c_str());
    return identity;
}

Identity load_identity(const std::string& folder) {
    Json told = Json::parse(read_file(folder + "/identity.json"));
    return {told.at("ca_pem"), told.at("certificate_pem"), told.at("key_pem"), told.at("name"), told.at("address")};
}

}  // namespace umbel
