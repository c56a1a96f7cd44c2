// One hospital's part of a federated linear model: heart FOLDER PATIENTS.csv APP [--join CODE --name NAME]
//
// APP is the name of the app at the server. The file has a row per patient: features, then the label, 0 or 1.
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "node.h"

using namespace umbel;

struct Patient {
    std::vector<double> x;
    double y;
};

static std::vector<Patient> read_patients(const std::string& path) {
    std::ifstream file(path);
    std::vector<Patient> patients;
    for (std::string line, cell; std::getline(file, line);) {
        std::istringstream cells(line);
        Patient patient;
        while (std::getline(cells, cell, ',')) patient.x.push_back(std::stod(cell));
        patient.y = patient.x.back();
        patient.x.pop_back();
        patients.push_back(patient);
    }
    return patients;
}

static double guess(const double* weights, double bias, const std::vector<double>& x) {
    double sum = bias;
    for (std::size_t j = 0; j < x.size(); j++) sum += weights[j] * x[j];
    return sum;
}

template <typename Model>
static auto& named(Model& model, const std::string& name) {
    for (auto& array : model)
        if (array.name == name) return array;
    throw std::runtime_error("the model has no array '" + name + "'");
}

int main(int count, char** words) {
    std::vector<std::string> rest;
    std::map<std::string, std::string> options;
    for (int i = 1; i < count; i++) {
        std::string word = words[i];
        if (word.compare(0, 2, "--") == 0 && i + 1 < count) options[word] = words[++i];
        else rest.push_back(word);
    }
    if (rest.size() != 3) {
        std::cerr << "usage: heart FOLDER PATIENTS.csv APP [--join CODE --name NAME]" << std::endl;
        return 2;
    }
    auto log = [](const std::string& text) { std::cout << text << std::endl; };
    auto patients = read_patients(rest[1]);
    double n = static_cast<double>(patients.size());
    auto pause = std::chrono::milliseconds(options.count("--pause-ms") ? std::stoi(options["--pause-ms"]) : 0);

    Client client;
    client.app = rest[2];

    // This is the training, all of it: some steps downhill on the mean squared error.
    client.fit = [&](Arrays& model, const Json& settings, Turn turn) -> Fit {
        log("round " + std::to_string(turn.round) + ": training");
        double* weights = named(model, "weights").template items<double>();
        double& bias = *named(model, "bias").template items<double>();
        std::uint64_t steps = settings.at("local_steps");
        double lr = settings.at("lr");
        for (std::uint64_t step = 0; step < steps && !turn.cancelled; step++) {
            std::vector<double> slope(patients[0].x.size());
            double slope_bias = 0;
            for (auto& [x, y] : patients) {
                double error = guess(weights, bias, x) - y;
                for (std::size_t j = 0; j < x.size(); j++) slope[j] += error * x[j];
                slope_bias += error;
            }
            for (std::size_t j = 0; j < slope.size(); j++) weights[j] -= lr * (slope[j] / n);
            bias -= lr * (slope_bias / n);
            std::this_thread::sleep_for(pause);
        }
        return {n, steps};
    };

    client.evaluate = [&](const Arrays& model, const Json&) -> Evaluation {
        const double* weights = named(model, "weights").template items<double>();
        double bias = *named(model, "bias").template items<double>(), loss = 0, right = 0;
        for (auto& [x, y] : patients) {
            double found = guess(weights, bias, x);
            loss += (found - y) * (found - y);
            right += (found > 0.5) == (y == 1);
        }
        return {loss / n, n, {{"accuracy", right / n}}};
    };

    try {
        bool joined = static_cast<bool>(std::ifstream(rest[0] + "/identity.json"));
        Identity identity = joined ? load_identity(rest[0]) : join(options["--join"], options["--name"], rest[0]);
        log(take_part(identity, client, log));
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << std::endl;
        return 1;
    }
}
