// A node: it stays connected, keeps the models that it was sent, answers asks with what a `Client` computes.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "formats.h"
#include "join.h"

namespace umbel {

struct Turn {
    std::uint32_t round;
    std::atomic<bool>& cancelled;  // look at it now and then: nobody waits for the result any more
};

struct Fit {
    double examples;
    std::uint64_t steps;
    Json metrics = Json::object();
};

struct Evaluation {
    double loss, examples;
    Json metrics = Json::object();
};

// What the owner of the data writes; both run in a thread of their own, and may throw.
struct Client {
    std::string app;  // the name of the server's app that this client is made for
    std::function<Fit(Arrays& model, const Json& settings, Turn turn)> fit;  // changes `model`
    std::function<Evaluation(const Arrays& model, const Json& settings)> evaluate;
};

// Take part until the server says that nothing is left, coming back after each lost connection; returns the server's
// last word. Throws std::runtime_error when the server refuses this node.
std::string take_part(const Identity& identity, const Client& client, std::function<void(const std::string&)> log);

}  // namespace umbel
