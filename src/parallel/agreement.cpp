// SPDX-License-Identifier: Apache-2.0
#include "parallel/agreement.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>

#include "parallel/traced_work.h"

namespace gf {

void all_or_none(Communicator& ranks, const std::function<void()>& body) {
  if (ranks.size() == 1) return body();
  std::optional<Error> error;
  try {
    body();
  } catch (const AgreedError&) {
    throw;  // the others have it too
  } catch (const Error& e) {
    error = e;
  } catch (const std::exception& e) {
    error = Error(e.what(), "", Exit::failed, Where::here());
  }
  const int rank = ranks.rank(), size = ranks.size();
  const Tensor failures = Tensor::empty({size}, DType::i32, kCpu);
  const int status = error ? static_cast<int>(error->status()) : 0;
  wait_for(*ranks.all_gather(Tensor::of<int32_t>({1}, {status}), failures), "wait for all ranks to agree");
  const int32_t* const begin = failures.data<int32_t>();
  const int32_t* const first = std::find_if(begin, begin + size, [](int32_t s) { return s != 0; });
  if (first == begin + size) return;
  if (error && first == begin + rank) throw AgreedError(*error, true);
  throw AgreedError(Error(cat("rank ", first - begin, " of ", size, " failed"), "the message of that rank says why",
                          static_cast<Exit>(*first), Where::here()),
                    false);
}

void check_same_everywhere(Communicator& ranks, const std::string& what, const std::string& text) {
  // All texts of thousands of ranks are much to hold; their digests say whether that is needed.
  const auto digest = std::bit_cast<std::array<int32_t, 2>>(XXH3_64bits(text.data(), text.size()));
  const Tensor digests = Tensor::empty({2 * ranks.size()}, DType::i32, kCpu);
  ranks.all_gather(Tensor::of<int32_t>({2}, {digest[0], digest[1]}), digests)->wait();
  const std::span numbers(digests.data<int32_t>(), static_cast<size_t>(digests.numel()));
  if (std::ranges::equal(numbers.first(numbers.size() - 2), numbers.last(numbers.size() - 2))) return;
  const std::vector<std::string> all = ranks.gather_text(text);
  all_or_none(ranks, [&] {
    const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& t) { return t != all[0]; });
    if (other == all.end()) return;
    // The first line that differs says most.
    const auto [mine, theirs] = std::mismatch(all[0].begin(), all[0].end(), other->begin(), other->end());
    const auto line = [](const std::string& whole, std::string::const_iterator at) {
      const auto offset = static_cast<size_t>(at - whole.begin());
      const size_t begin = offset == 0 ? 0 : whole.rfind('\n', offset - 1) + 1;
      std::string found = whole.substr(begin, whole.find('\n', begin) - begin);
      found.erase(0, found.find_first_not_of(' '));
      return found;
    };
    refuse(cat(what, " of rank ", other - all.begin(), " is not that of rank 0: \"", line(*other, theirs), "\" and \"",
               line(all[0], mine), "\""),
           "the same program, files and options on every rank");
  });
}

double largest(Communicator& ranks, double own) {
  const Tensor number = Tensor::of<double>({1}, {own});
  ranks.all_reduce(number, Reduce::max);
  return number.data<double>()[0];
}

}  // namespace gf
