// How a node gets its certificate: the invitation code says where the server is and which CA to trust; the key is made
// here, by OpenSSL, and never leaves.
#pragma once
#include <string>

#include "formats.h"

namespace umbel {

struct Identity {
    std::string ca_pem, certificate_pem, key_pem, name, address;
};

struct Code {
    Bytes secret, ca_digest;
    std::string address;
};

Code read_code(const std::string& code);
std::pair<std::string, std::string> host_and_port(std::string address);
// Become the member `name`; the identity is kept in `folder` and returned. The same call goes on after a kill.
Identity join(const std::string& code, const std::string& name, const std::string& folder);
Identity load_identity(const std::string& folder);

}  // namespace umbel
