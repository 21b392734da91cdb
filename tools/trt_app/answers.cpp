#include "answers.h"

#include "error.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <numeric>

namespace app {

std::vector<Answer> best(
    float const* logits, std::vector<std::string> const& labels, std::string const& task, std::size_t top) {
    std::size_t const count = labels.size();
    for (std::size_t i = 0; i < count; ++i) {
        if (!std::isfinite(logits[i])) throw Error(1, "the engine gave a logit that is no finite number.");
    }
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    bool const single = task != "vqa" && task != "retrieval";
    double total = 0;
    auto raised = [&](std::size_t i) { return std::exp(double{logits[i]} - double{logits[order[0]]}); };
    for (std::size_t i = 0; i < count && single; ++i) total += raised(i);
    std::vector<Answer> found;
    for (std::size_t i = 0; i < std::min(top, count); ++i) {
        std::size_t const label = order[i];
        double const sigmoid = 0.5 * (1 + std::tanh(0.5 * double{logits[label]})); // without overflow
        found.push_back({labels[label], single ? raised(label) / total : sigmoid});
    }
    return found;
}

void print(
    std::ostream& out, std::vector<float> const& logits, std::vector<std::string> const& labels,
    std::string const& task, std::size_t top) {
    std::size_t const rows = logits.size() / labels.size();
    for (std::size_t row = 0; row < rows; ++row) {
        if (rows > 1) out << "example " << row << ":\n";
        for (Answer const& answer : best(logits.data() + row * labels.size(), labels, task, top)) {
            out << std::fixed << std::setprecision(2) << std::setw(6) << 100 * answer.score << "%  " << answer.label
                << "\n";
        }
    }
}

} // namespace app
