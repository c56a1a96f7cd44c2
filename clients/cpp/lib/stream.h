// One connection to a server, inside TLS, that never blocks; and the little of HTTPS that joining needs.
#pragma once
#include <openssl/ssl.h>

#include <memory>
#include <optional>

#include "join.h"
#include "umbel.pb.h"

namespace umbel {

using Ssl = std::unique_ptr<SSL, decltype(&SSL_free)>;
using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

// TLS that trusts the identity's CA alone, and shows its certificate if it has one. Without a CA nobody is verified.
Context tls(const Identity& identity);
// Connects and shakes hands, within 15 s; the socket blocks. Throws std::runtime_error.
Ssl dial(SSL_CTX* context, const std::string& address, bool verify);
// JSON over HTTPS; a body makes it a POST.
Json ask(const Identity& identity, const std::string& address, const std::string& path, const Json& body, bool verify);

class Stream {
public:
    explicit Stream(const Identity& identity);
    ~Stream();
    void say(const v1::Packet& packet);
    // The next packet, if there is one; moves bytes both ways and does not wait. Throws when the connection has ended.
    std::optional<v1::Packet> next();
    // Waits until there may be something to do, at most so long; `wake` is a further file to read from.
    void wait(int wake, int timeout_ms);
    void flush();  // hands to the socket what it takes

private:
    void move();
    Context context_;
    Ssl ssl_;
    int socket_;
    Bytes incoming_, outgoing_;
    std::size_t begin_ = 0;
    bool greeted_ = false;
};

}  // namespace umbel
