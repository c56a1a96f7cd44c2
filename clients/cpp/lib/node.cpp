#include "node.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <deque>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

#include "stream.h"

namespace umbel {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint32_t VERSION = 1;
constexpr std::size_t AT_ONCE_BYTES = 16 * 1024, CHUNK_BYTES = 256 * 1024, BLOBS_KEPT = 4;
constexpr std::uint64_t MAX_MESSAGE_BYTES = 1ull << 30;
constexpr double FIRST_WAIT_S = 0.2, LONGEST_WAIT_S = 30;

double since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

std::string turn_of(const std::string& run, std::uint64_t round, std::uint64_t attempt, const std::string& kind) {
    return run + "/" + std::to_string(round) + "/" + std::to_string(attempt) + "/" + kind;
}
std::string turn_of(const Json& ask) { return turn_of(ask.at("run"), ask.at("round"), ask.at("attempt"), ask.at("kind")); }

template <typename Item>
void subtract(Array& array, const Array& old) {
    for (std::size_t i = 0; i < array.data.size() / sizeof(Item); i++) array.items<Item>()[i] -= old.items<Item>()[i];
}

// FedAvg's half of a client: new minus old of what is trained or averaged.
Arrays difference(const Arrays& before, const Arrays& after) {
    Arrays delta;
    for (std::size_t i = 0; i < before.size(); i++) {
        if (before[i].role != "trained" && before[i].role != "averaged") continue;
        Array array = after.at(i);
        if (array.dtype == "F64") subtract<double>(array, before[i]);
        else if (array.dtype == "F32") subtract<float>(array, before[i]);
        else if (array.dtype == "I64") subtract<std::int64_t>(array, before[i]);
        else throw std::runtime_error("array '" + array.name + "' is " + array.dtype + "; this client computes with F64, F32 and I64");
        delta.push_back(std::move(array));
    }
    return delta;
}

struct Done {
    std::string turn;
    Json ask;
    Bytes frame;
};

struct Work {
    std::atomic<bool> cancelled{false};
    std::thread thread;
};

class Node {
public:
    Node(const Identity& identity, const Client& client, std::function<void(const std::string&)> log)
        : identity_(identity), client_(client), log_(std::move(log)), boot_(16, '\0') {
        RAND_bytes(reinterpret_cast<unsigned char*>(boot_.data()), 16);
        if (pipe2(wake_, O_NONBLOCK | O_CLOEXEC)) throw std::runtime_error("no pipe can be opened");
        std::signal(SIGPIPE, SIG_IGN);
    }

    ~Node() {
        for (auto& [turn, work] : working_) {
            work->cancelled = true;
            work->thread.join();
        }
        close(wake_[0]);
        close(wake_[1]);
    }

    std::string take_part() {
        std::mt19937 dice{std::random_device{}()};
        std::uniform_real_distribution<double> factor(0.5, 1.5);
        for (double wait_s = FIRST_WAIT_S;; wait_s = std::min(2 * wait_s, LONGEST_WAIT_S)) {
            goodbye_.Clear();
            gone_ = welcomed_ = was_welcome_ = false;
            try {
                Stream stream(identity_);
                stream_ = &stream;
                live();
            } catch (const std::exception& error) {
                log_(std::string("connection lost: ") + error.what());
            }
            stream_ = nullptr;
            welcomed_ = false;
            if (goodbye_.refused()) throw std::runtime_error("the server refuses this node: " + goodbye_.reason());
            if (goodbye_.finished()) return goodbye_.reason();
            if (was_welcome_) wait_s = FIRST_WAIT_S;
            double pause_s = std::max(wait_s * factor(dice), goodbye_.retry_ms() / 1000.0);
            std::this_thread::sleep_for(std::chrono::duration<double>(pause_s));
        }
    }

private:
    struct Incoming {
        v1::Announce about;
        std::string digest;
    };
    struct Outgoing {
        Bytes bytes;
        std::uint64_t sent = 0;
        bool granted = false;
    };

    void live() {
        incoming_.clear();  // numbers of messages end with their stream
        outgoing_.clear();
        waiting_.clear();
        last_id_ = 0;
        v1::Packet packet;
        auto* hello = packet.mutable_hello();
        hello->set_version(VERSION);
        hello->set_oldest(VERSION);
        hello->set_name(identity_.name);
        hello->set_boot(boot_);
        Json about;
        about["apps"][client_.app] = "";
        hello->set_about(about.dump());
        stream_->say(packet);
        auto heard = Clock::now(), said = heard;
        double heartbeat_s = 5;
        while (!gone_) {
            while (auto next = stream_->next()) {
                heard = Clock::now();
                if (next->has_welcome()) heartbeat_s = next->welcome().heartbeat_ms() / 1000.0;
                hear(*next);
                if (gone_) return;
            }
            finish_work();
            if (since(heard) > 3 * heartbeat_s) throw std::runtime_error("the server was silent for three heartbeats");
            if (welcomed_ && since(said) > heartbeat_s / 2) {
                v1::Packet ping;
                ping.mutable_ping();
                stream_->say(ping);
                said = Clock::now();
            }
            stream_->flush();
            stream_->wait(wake_[0], static_cast<int>(heartbeat_s * 250));
        }
    }

    void hear(const v1::Packet& packet) {
        v1::Packet answer;
        switch (packet.kind_case()) {
            case v1::Packet::kWelcome:
                welcomed_ = was_welcome_ = true;
                log_("connected to " + identity_.address);
                break;
            case v1::Packet::kGoodbye:
                goodbye_ = packet.goodbye();
                gone_ = true;
                break;
            case v1::Packet::kPing:
                answer.mutable_pong()->set_number(packet.ping().number());
                stream_->say(answer);
                break;
            case v1::Packet::kAnnounce: announced(packet.announce()); break;
            case v1::Packet::kChunk: chunk(packet.chunk()); break;
            case v1::Packet::kWithdraw:
                if (auto found = incoming_.find(packet.withdraw().id()); found != incoming_.end()) {
                    partial_.erase(found->second.digest);
                    incoming_.erase(found);
                }
                break;
            case v1::Packet::kGrant: granted(packet.grant()); break;
            case v1::Packet::kAcknowledge: outgoing_.erase(packet.acknowledge().id()); break;
            case v1::Packet::kRefuse:
                outgoing_.erase(packet.refuse().id());
                log_("the server does not want an answer: " + packet.refuse().reason());
                break;
            case v1::Packet::kCancel: cancelled(packet.cancel()); break;
            case v1::Packet::kSettled: {
                auto& of = packet.settled();
                answers_.erase(turn_of(of.run(), of.round(), of.attempt(), "fit"));
                break;
            }
            default: break;  // kinds that are not known are ignored
        }
    }

    // What the server sends.

    void announced(const v1::Announce& about) {
        v1::Packet answer;
        std::string digest = hex(about.digest());
        if (about.kind() == "blob" && find_blob(digest)) {
            answer.mutable_acknowledge()->set_id(about.id());
        } else if (about.size() > MAX_MESSAGE_BYTES) {
            answer.mutable_refuse()->set_id(about.id());
            answer.mutable_refuse()->set_reason("too large for this node");
        } else if (about.data().size() == about.size()) {
            return arrived(about, about.data());
        } else {
            auto* grant = answer.mutable_grant();
            grant->set_id(about.id());
            grant->set_offset(partial_[digest].size());
            grant->set_limit(about.size());
            incoming_[about.id()] = {about, digest};
        }
        stream_->say(answer);
    }

    void chunk(const v1::Chunk& piece) {
        auto found = incoming_.find(piece.id());
        if (found == incoming_.end()) return;
        Incoming message = found->second;
        Bytes& bytes = partial_[message.digest];
        if (piece.offset() != bytes.size()) throw std::runtime_error("a chunk came out of order");
        bytes += piece.data();
        if (bytes.size() < message.about.size()) return;
        Bytes whole = std::move(bytes);
        partial_.erase(message.digest);
        incoming_.erase(found);
        arrived(message.about, whole);
    }

    void arrived(const v1::Announce& about, const Bytes& bytes) {
        if (sha256(bytes) != about.digest()) throw std::runtime_error("a " + about.kind() + " was damaged on its way");
        v1::Packet answer;
        answer.mutable_acknowledge()->set_id(about.id());
        stream_->say(answer);
        if (about.kind() == "plan") planned(read_tree(read_frame(bytes).body).at("plan"));
        else if (about.kind() == "blob") held(hex(about.digest()), read_buffer(bytes));
        else if (about.kind() == "ask") asked(read_tree(read_frame(bytes).body));
        else if (about.kind() == "retire") retired(about.run());
    }

    void planned(const Json& plan) {
        plans_[plan.at("run")] = plan;
        auto& half = plan.at("client_half");
        bool able = half.at("name") == "FedAvg" && (!half.contains("shared") || half["shared"].is_null());
        Json turn = {{"run", plan.at("run")}, {"round", 0}, {"attempt", 0}, {"kind", "properties"}};
        Json more = Json::object();
        if (able) more["facts"] = {{"capabilities", {"fit", "evaluate"}}, {"schema", nullptr}};
        else more = {{"verdict", "unwilling"}, {"reason", "this client knows FedAvg over whole models alone"}};
        send("ready", turn, write_frame({"answer", write_tree(answer(turn, more)), {}}));
    }

    void held(const std::string& digest, Arrays arrays) {
        blobs_.push_back({digest, std::make_shared<const Arrays>(std::move(arrays))});
        if (blobs_.size() > BLOBS_KEPT) blobs_.pop_front();
        std::vector<Json> waiting;
        waiting.swap(waiting_);
        for (auto& ask : waiting) asked(ask);
    }

    std::shared_ptr<const Arrays> find_blob(const std::string& digest) {
        for (auto& [known, arrays] : blobs_)
            if (known == digest) return arrays;
        return nullptr;
    }

    void retired(const std::string& run) {
        plans_.erase(run);
        for (auto at = answers_.begin(); at != answers_.end();)
            at = at->first.compare(0, run.size() + 1, run + "/") == 0 ? answers_.erase(at) : std::next(at);
        for (auto& [turn, work] : working_)
            if (turn.compare(0, run.size() + 1, run + "/") == 0) work->cancelled = true;
    }

    // What this node is asked.

    void asked(const Json& ask) {
        std::string turn = turn_of(ask);
        if (auto kept = answers_.find(turn); kept != answers_.end()) return send("answer", ask, kept->second);
        if (working_.count(turn)) return;  // it came again after a reconnection: the work goes on
        std::string digest = ask.at("model");
        auto model = find_blob(digest);
        if (!model) {
            // An ask is small and overtakes the model that it speaks of; one that is not on its way is asked for.
            bool coming = std::any_of(incoming_.begin(), incoming_.end(), [&](auto& one) { return one.second.digest == digest; });
            if (!coming) {
                v1::Packet want;
                want.mutable_want()->set_digest(unhex(digest));
                want.mutable_want()->set_run(ask.at("run"));
                stream_->say(want);
            }
            waiting_.push_back(ask);
            return;
        }
        Json settings = Json::object();
        if (auto plan = plans_.find(ask.at("run")); plan != plans_.end()) settings.update(plan->second.at("settings"));
        settings.update(ask.at("config"));
        auto work = std::make_shared<Work>();
        working_[turn] = work;
        work->thread = std::thread([this, turn, ask, model, settings, raw = work.get()] {
            Bytes frame = outcome(ask, *model, settings, raw->cancelled);
            std::lock_guard<std::mutex> lock(mutex_);
            done_.push_back({turn, ask, frame});
            if (write(wake_[1], "!", 1) < 0) return;  // full: it is awake already
        });
    }

    Bytes outcome(const Json& ask, const Arrays& model, const Json& settings, std::atomic<bool>& cancelled) {
        auto began = Clock::now();
        Json more;
        std::vector<Bytes> buffers;
        try {
            if (ask.at("kind") == "fit") {
                Arrays trained = model;
                Fit fit = client_.fit(trained, settings, {ask.at("round"), cancelled});
                buffers.push_back(write_buffer(difference(model, trained)));
                Json arrays = Json::array();
                arrays.push_back("arrays");
                arrays.push_back(0);
                more = {{"examples", fit.examples}, {"steps", fit.steps}, {"metrics", fit.metrics}};
                more["groups"]["delta"]["weight"] = fit.examples;
                more["groups"]["delta"]["arrays"] = arrays;
            } else if (ask.at("kind") == "evaluate") {
                Evaluation found = client_.evaluate(model, settings);
                more = {{"loss", found.loss}, {"examples", found.examples}, {"metrics", found.metrics}};
            } else {
                more = {{"verdict", "unwilling"}, {"reason", "this client only trains and evaluates"}};
            }
        } catch (const std::exception& error) {
            buffers.clear();
            more = {{"verdict", "failed"}, {"reason", std::string(error.what()).substr(0, 2000)}};
        }
        more["seconds"] = since(began);
        return write_frame({"answer", write_tree(answer(ask, more)), buffers});
    }

    void finish_work() {
        char signs[64];
        while (read(wake_[0], signs, sizeof signs) > 0) {
        }
        std::deque<Done> done;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            done.swap(done_);
        }
        for (auto& one : done) {
            auto work = working_.at(one.turn);
            work->thread.join();
            working_.erase(one.turn);
            if (work->cancelled) continue;
            if (one.ask.at("kind") == "fit") answers_[one.turn] = one.frame;
            if (welcomed_) send("answer", one.ask, one.frame);
        }
    }

    Json answer(const Json& turn, const Json& more) {
        Json told = {{"run", turn.at("run")}, {"round", turn.at("round")}, {"attempt", turn.at("attempt")},
                     {"kind", turn.at("kind")}, {"client", identity_.name}, {"verdict", "done"}, {"reason", ""},
                     {"seconds", 0.0}, {"has_state", false}, {"warnings", Json::array()}, {"facts", Json::object()}};
        told.update(more);
        return told;
    }

    void cancelled(const v1::Cancel& of) {
        std::string turn = turn_of(of.run(), of.round(), of.attempt(), of.kind());
        if (auto work = working_.find(turn); work != working_.end()) work->second->cancelled = true;
        waiting_.erase(std::remove_if(waiting_.begin(), waiting_.end(), [&](auto& ask) { return turn_of(ask) == turn; }), waiting_.end());
    }

    // What this node sends.

    void send(const std::string& kind, const Json& turn, const Bytes& bytes) {
        v1::Packet packet;
        auto* about = packet.mutable_announce();
        about->set_id(++last_id_);
        about->set_kind(kind);
        about->set_size(bytes.size());
        about->set_digest(sha256(bytes));
        about->set_run(turn.at("run"));
        about->set_round(turn.at("round"));
        about->set_attempt(turn.at("attempt"));
        if (bytes.size() <= AT_ONCE_BYTES) about->set_data(bytes);
        outgoing_[last_id_].bytes = bytes;
        stream_->say(packet);
    }

    void granted(const v1::Grant& grant) {
        auto found = outgoing_.find(grant.id());
        if (found == outgoing_.end()) return;
        Outgoing& message = found->second;
        // Only a message's first grant says where to begin; later ones raise the limit.
        if (!message.granted) message.sent = grant.offset();
        message.granted = true;
        std::uint64_t limit = std::min<std::uint64_t>(grant.limit(), message.bytes.size());
        while (message.sent < limit) {
            v1::Packet packet;
            std::uint64_t size = std::min<std::uint64_t>(CHUNK_BYTES, limit - message.sent);
            packet.mutable_chunk()->set_id(grant.id());
            packet.mutable_chunk()->set_offset(message.sent);
            packet.mutable_chunk()->set_data(message.bytes.substr(message.sent, size));
            stream_->say(packet);
            message.sent += size;
        }
    }

    const Identity& identity_;
    const Client& client_;
    std::function<void(const std::string&)> log_;
    Bytes boot_;
    int wake_[2];
    Stream* stream_ = nullptr;
    v1::Goodbye goodbye_;
    bool gone_ = false, welcomed_ = false, was_welcome_ = false;
    std::uint64_t last_id_ = 0;
    std::map<std::uint64_t, Incoming> incoming_;
    std::map<std::uint64_t, Outgoing> outgoing_;
    std::map<std::string, Bytes> partial_;  // by digest: what came so far; outlives a connection
    std::map<std::string, Json> plans_;
    std::deque<std::pair<std::string, std::shared_ptr<const Arrays>>> blobs_;
    std::map<std::string, Bytes> answers_;  // by turn, until they are settled
    std::map<std::string, std::shared_ptr<Work>> working_;
    std::vector<Json> waiting_;
    std::mutex mutex_;  // guards done_, the only thing that threads share
    std::deque<Done> done_;
};

}  // namespace

std::string take_part(const Identity& identity, const Client& client, std::function<void(const std::string&)> log) {
    return Node(identity, client, std::move(log)).take_part();
}

}  // namespace umbel
