#include "sha256.h"

#include <array>
#include <cstddef>
#include <cstdint>

namespace app {
namespace {

using Word = std::uint32_t;

constexpr std::array<Word, 64> kRounds{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

Word turned(Word x, int by) { return x >> by | x << (32 - by); }

void block(std::array<Word, 8>& state, unsigned char const* bytes) {
    std::array<Word, 64> w{};
    for (std::size_t i = 0; i < 16; ++i) {
        w[i] = Word{bytes[4 * i]} << 24 | Word{bytes[4 * i + 1]} << 16 | Word{bytes[4 * i + 2]} << 8 | bytes[4 * i + 3];
    }
    for (std::size_t i = 16; i < 64; ++i) {
        Word const a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[i - 7]
               + (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (std::size_t i = 0; i < 64; ++i) {
        Word const one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + kRounds[i] + w[i];
        Word const two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    std::array<Word, 8> const more{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state[i] += more[i];
}

} // namespace

std::string sha256(std::vector<char> const& bytes) {
    std::array<Word, 8> state{
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    auto const* data = reinterpret_cast<unsigned char const*>(bytes.data());
    std::size_t const whole = bytes.size() / 64 * 64;
    for (std::size_t at = 0; at < whole; at += 64) block(state, data + at);
    // The rest, a one, zeros, and the length in bits at the end of a block.
    std::vector<unsigned char> rest(data + whole, data + bytes.size());
    rest.push_back(0x80);
    while (rest.size() % 64 != 56) rest.push_back(0);
    std::uint64_t const bits = std::uint64_t{bytes.size()} * 8;
    for (int shift = 56; shift >= 0; shift -= 8) rest.push_back(static_cast<unsigned char>(bits >> shift));
    for (std::size_t at = 0; at < rest.size(); at += 64) block(state, rest.data() + at);
    std::string found;
    for (Word const word : state) {
        for (int shift = 28; shift >= 0; shift -= 4) found += "0123456789abcdef"[word >> shift & 15];
    }
    return found;
}

} // namespace app
