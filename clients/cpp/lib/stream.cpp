#include "stream.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <stdexcept>

namespace umbel {
namespace {

const Bytes MAGIC = "UMBL/1\r\n";
constexpr std::uint32_t MAX_PACKET_BYTES = 1u << 21;
constexpr int CONNECT_S = 15;

[[noreturn]] void fail(const std::string& what) {
    char text[200] = "";
    if (unsigned long error = ERR_get_error()) ERR_error_string_n(error, text, sizeof text);
    throw std::runtime_error(what + (*text ? std::string(": ") + text : ""));
}

template <typename Thing, typename Read, typename Free>
std::unique_ptr<Thing, Free> from_pem(const std::string& pem, Read read, Free release) {
    std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
    std::unique_ptr<Thing, Free> thing(read(bio.get(), nullptr, nullptr, nullptr), release);
    if (!thing) fail("a certificate or key is damaged; join again");
    return thing;
}

int reach(const std::string& address) {
    auto [host, port] = host_and_port(address);
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host.c_str(), port.c_str(), &hints, &found)) throw std::runtime_error("there is no host " + host);
    int file = -1;
    for (addrinfo* at = found; at && file < 0; at = at->ai_next) {
        file = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        timeval limit{CONNECT_S, 0};
        setsockopt(file, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (file >= 0 && connect(file, at->ai_addr, at->ai_addrlen)) {
            close(file);
            file = -1;
        }
    }
    freeaddrinfo(found);
    if (file < 0) throw std::runtime_error("nobody answers at " + address);
    return file;
}

}  // namespace

Context tls(const Identity& identity) {
    Context context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
    SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
    if (!identity.ca_pem.empty()) {
        auto ca = from_pem<X509>(identity.ca_pem, PEM_read_bio_X509, X509_free);
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context.get()), ca.get());
    }
    if (!identity.certificate_pem.empty()) {
        auto certificate = from_pem<X509>(identity.certificate_pem, PEM_read_bio_X509, X509_free);
        auto key = from_pem<EVP_PKEY>(identity.key_pem, PEM_read_bio_PrivateKey, EVP_PKEY_free);
        if (SSL_CTX_use_certificate(context.get(), certificate.get()) != 1 || SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1)
            fail("certificate and key do not belong together; join again");
    }
    return context;
}

Ssl dial(SSL_CTX* context, const std::string& address, bool verify) {
    Ssl ssl(SSL_new(context), SSL_free);
    std::string host = host_and_port(address).first;
    unsigned char number[16];
    bool is_number = inet_pton(AF_INET, host.c_str(), number) == 1 || inet_pton(AF_INET6, host.c_str(), number) == 1;
    if (is_number) X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host.c_str());
    else {
        SSL_set1_host(ssl.get(), host.c_str());
        SSL_set_tlsext_host_name(ssl.get(), host.c_str());
    }
    SSL_set_verify(ssl.get(), verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    BIO* bio = BIO_new_socket(reach(address), BIO_CLOSE);
    SSL_set_bio(ssl.get(), bio, bio);
    if (SSL_connect(ssl.get()) != 1) fail("no TLS with " + address);
    return ssl;
}

Json ask(const Identity& identity, const std::string& address, const std::string& path, const Json& body, bool verify) {
    Context context = tls(identity);
    Ssl ssl = dial(context.get(), address, verify);
    std::string text = body.is_null() ? "" : body.dump();
    std::string request = (body.is_null() ? "GET " : "POST ") + path + " HTTP/1.1\r\nHost: " + address +
                          "\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: " +
                          std::to_string(text.size()) + "\r\n\r\n" + text;
    if (SSL_write(ssl.get(), request.data(), static_cast<int>(request.size())) <= 0) fail("the connection ended");
    std::string answer;
    char part[4096];
    for (int size; (size = SSL_read(ssl.get(), part, sizeof part)) > 0 && answer.size() < (1u << 20);) answer.append(part, size);
    ERR_clear_error();
    std::size_t head = answer.find("\r\n\r\n");
    Json told = head == std::string::npos ? Json() : Json::parse(answer.substr(head + 4), nullptr, false);
    if (!told.is_object()) throw std::runtime_error(address + " does not answer as an Umbel server does; is it the address?");
    if (answer.compare(0, 12, "HTTP/1.1 200") != 0) throw std::runtime_error(address + " refuses: " + told.value("error", "no reason"));
    return told;
}

Stream::Stream(const Identity& identity)
    : context_(tls(identity)), ssl_(dial(context_.get(), identity.address, true)), socket_(SSL_get_fd(ssl_.get())) {
    fcntl(socket_, F_SETFL, fcntl(socket_, F_GETFL) | O_NONBLOCK);
    outgoing_ = MAGIC;
}

Stream::~Stream() = default;

void Stream::say(const v1::Packet& packet) {
    Bytes bytes = packet.SerializeAsString();
    for (int i = 0; i < 4; i++) outgoing_ += static_cast<char>(bytes.size() >> 8 * i & 255);
    outgoing_ += bytes;
}

void Stream::move() {
    while (begin_ < outgoing_.size()) {
        int size = SSL_write(ssl_.get(), outgoing_.data() + begin_, static_cast<int>(std::min<std::size_t>(outgoing_.size() - begin_, 1 << 20)));
        if (size <= 0) {
            int why = SSL_get_error(ssl_.get(), size);
            if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ) fail("the connection ended");
            break;
        }
        begin_ += size;
    }
    if (begin_ == outgoing_.size()) {
        outgoing_.clear();
        begin_ = 0;
    }
    char part[1 << 16];
    // Packets are taken one by one: no more is read than one of them needs.
    while (incoming_.size() < MAX_PACKET_BYTES + 4) {
        int size = SSL_read(ssl_.get(), part, sizeof part);
        if (size <= 0) {
            int why = SSL_get_error(ssl_.get(), size);
            // What came before the end is still worth reading: it may say goodbye.
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE && incoming_.empty()) fail("the connection ended");
            break;
        }
        incoming_.append(part, size);
    }
}

std::optional<v1::Packet> Stream::next() {
    move();
    if (!greeted_) {
        if (incoming_.size() < MAGIC.size()) return std::nullopt;
        if (incoming_.compare(0, MAGIC.size(), MAGIC) != 0) throw std::runtime_error("what answers is no Umbel server");
        incoming_.erase(0, MAGIC.size());
        greeted_ = true;
    }
    if (incoming_.size() < 4) return std::nullopt;
    std::uint32_t size = 0;
    for (int i = 3; i >= 0; i--) size = size << 8 | static_cast<unsigned char>(incoming_[i]);
    if (size > MAX_PACKET_BYTES) throw std::runtime_error("the server sends a packet that is too large");
    if (incoming_.size() < 4 + size) return std::nullopt;
    v1::Packet packet;
    if (!packet.ParseFromArray(incoming_.data() + 4, static_cast<int>(size))) throw std::runtime_error("the server sends what is no packet");
    incoming_.erase(0, 4 + size);
    return packet;
}

void Stream::wait(int wake, int timeout_ms) {
    if (SSL_pending(ssl_.get())) return;
    short events = POLLIN;
    if (!outgoing_.empty()) events |= POLLOUT;
    pollfd files[] = {{socket_, events, 0}, {wake, POLLIN, 0}};
    poll(files, 2, timeout_ms);
}

void Stream::flush() {
    move();
}

}  // namespace umbel
