// Logits as ranked answers with scores from 0 to 1.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace app {

struct Answer {
    std::string label;
    double score;
};

// The best `top` answers of one example. A score is a softmax over the labels, or for the tasks "vqa", where several
// answers may be right, and "retrieval" each logit's sigmoid. Throws Error when a logit is no finite number.
std::vector<Answer> best(
    float const* logits, std::vector<std::string> const& labels, std::string const& task, std::size_t top);

// All examples of a batch; `logits` has a row of them for each.
void print(
    std::ostream& out, std::vector<float> const& logits, std::vector<std::string> const& labels,
    std::string const& task, std::size_t top);

} // namespace app
