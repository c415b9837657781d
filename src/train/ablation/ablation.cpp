// SPDX-License-Identifier: Apache-2.0
#include "train/ablation/ablation.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "io/yaml_file.h"
#include "train/ablation/costs.h"

namespace gf {
namespace {

constexpr const char* kHint =
    "variants: [{name: finch, set: {model.tmix: x060}}, ...], seeds: [1, 2, 3], match: none; configs/ablations/ has "
    "examples";
constexpr size_t kMostRuns = 10'000, kLongestName = 100;

// A run's folder is named after it, and a program's arguments hold it.
void check_name(const std::string& name) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c == '-' || c == '+'; };
  if (name.empty()) refuse("there is no name", kHint);
  if (name.size() > kLongestName || !std::ranges::all_of(name, plain) ||
      !std::isalnum(static_cast<unsigned char>(name[0])))
    refuse(cat("the name ", in_quotes(name.substr(0, kLongestName)), " is no good name for a folder"),
           cat("letters and digits, then also . _ - and +, ", kLongestName, " characters at most"));
}

// What decides how the data is cut into samples, and so what a token's loss means.
bool cuts_data(std::string_view key) {
  return key == "model.ctx_len" || key == "model.vocab_size";
}

void check_key(const std::string& key) {
  if (!key.starts_with("model.") || cuts_data(key))
    refuse(cat("it sets ", shortened(key), ", and variants share their data, its order, the batch and the schedule"),
           "keys of the section model but ctx_len and vocab_size; what holds for all of them stands in the base");
}

// {model: {tmix: x060}} means {model.tmix: x060}.
void flatten(const Setting& section, const std::string& prefix, std::vector<Setting>& out) {
  for (const Setting& entry : section.entries) {
    Setting s = entry;
    s.path = prefix + entry.path;
    if (s.kind == Setting::Kind::section && !s.entries.empty()) {
      flatten(entry, s.path + ".", out);
      continue;
    }
    check_key(s.path);
    if (s.kind == Setting::Kind::list)
      refuse(cat(shortened(s.path), " is a list, and no key of the model is one"), kHint);
    if (s.kind == Setting::Kind::section) s.kind = Setting::Kind::text, s.text = "on";
    if (s.kind == Setting::Kind::null) s.kind = Setting::Kind::text, s.text = "none";
    s.entries.clear();
    out.push_back(std::move(s));
  }
}

// The keys of the file are no options: what is refused of one has no hint that names it as such.
template <class Keys>
void apply_keys(const std::vector<Setting>& settings, Keys& keys) {
  try {
    apply_settings(settings, keys);
  } catch (const Error& e) {
    refuse(e.what(), e.hint().empty() || e.hint().starts_with("--") ? kHint : e.hint());
  }
}

// The value of the key `set`.
struct Settings {
  static constexpr const char* kType = "settings";
  std::vector<Setting> all;
  void set(const Setting& s) {
    if (s.kind != Setting::Kind::section) refuse(cat(s.path, " is no section of keys"), kHint);
    all.clear();
    flatten(s, "", all);
  }
  std::string text() const { return cat(all.size(), " keys"); }
};

struct Entry {
  std::string name;
  Settings set;

  template <class V>
  void visit(V& v) {
    v("name", name, "of the variant");
    v("set", set, "what it changes");
  }
};

// Calls body(i) for each entry; what is refused there is told with its place.
template <class Body>
void for_entries(const Setting& list, Body&& body) {
  if (list.kind != Setting::Kind::list) refuse(cat(place(list), list.path, " is no list"), kHint);
  for (size_t i = 0; i < list.entries.size(); ++i) {
    try {
      body(list.entries[i]);
    } catch (const Error& e) {
      refuse(cat(place(list.entries[i]), list.path, ": entry ", i + 1, ": ", e.what()), e.hint());
    }
  }
}

struct Variants {
  static constexpr const char* kType = "variants";
  std::vector<Variant> all;
  void set(const Setting& list) {
    all.clear();
    for_entries(list, [&](const Setting& s) {
      if (s.kind != Setting::Kind::section) refuse("it is no section", kHint);
      std::vector<Setting> keys = s.entries;
      for (Setting& key : keys) key.where.clear();  // told by for_entries()
      Entry e;
      apply_keys(keys, e);
      check_name(e.name);
      const auto same = std::ranges::find(all, e.name, &Variant::name);
      if (same != all.end())
        refuse(cat("it is called ", e.name, ", as entry ", same - all.begin() + 1, " is"), "a name of its own");
      all.push_back({e.name, e.set.all});
    });
  }
  std::string text() const { return cat(all.size(), " variants"); }
};

void add_seed(std::vector<int64_t>& seeds, const std::string& text) {
  int64_t seed = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size() || seed < 0)
    refuse(cat(in_quotes(text.substr(0, 40)), " is no seed"), "whole numbers from 0 on, such as 1, 2, 3");
  if (std::ranges::count(seeds, seed) > 0) refuse(cat("the seed ", seed, " comes twice"), "each once");
  seeds.push_back(seed);
}

struct Seeds {
  static constexpr const char* kType = "seeds";
  std::vector<int64_t> all;
  void set(const Setting& list) {
    all.clear();
    for_entries(list, [&](const Setting& s) { add_seed(all, s.text); });
  }
  std::string text() const { return joined(all); }
};

struct File {
  Variants variants;
  Seeds seeds;
  std::string match = "none";

  template <class V>
  void visit(V& v) {
    v("variants", variants, "what is compared");
    v("seeds", seeds, "each variant is trained from each of them");
    v("match", match, "none, params or flops: dim_ffn is chosen so that variants are equal in it");
  }
};

Ablation::Match match_named(const std::string& name) {
  if (name == "none") return Ablation::Match::none;
  if (name == "params") return Ablation::Match::params;
  if (name == "flops") return Ablation::Match::flops;
  refuse(cat("match is ", cited(name), " and must be one of: none, params, flops"), "match: none");
}

// Calls body(i) for each variant; what is refused there is told with its name.
void for_variants(const Ablation& ablation, const std::function<void(size_t i)>& body) {
  for (size_t i = 0; i < ablation.variants.size(); ++i) {
    try {
      body(i);
    } catch (const Error& e) {
      refuse(cat("variant ", ablation.variants[i].name, ": ", e.what()), e.hint());
    }
  }
}

std::string option(const Setting& s) {
  return cat("--", s.path, "=", s.text);
}

}  // namespace

Ablation read_ablation(const std::filesystem::path& path) {
  File file;
  apply_keys(read_yaml(path), file);
  Ablation a{path.stem().string(), std::move(file.variants.all), std::move(file.seeds.all), Ablation::Match::none};
  try {
    check_name(a.name);
    if (a.variants.empty()) refuse("there are no variants", kHint);
    if (a.seeds.empty()) refuse("there are no seeds", kHint);
    if (a.variants.size() * a.seeds.size() > kMostRuns)
      refuse(cat(a.variants.size(), " variants from ", a.seeds.size(), " seeds are more than ", kMostRuns, " runs"));
    a.match = match_named(file.match);
  } catch (const Error& e) {
    refuse(cat(path.string(), ": ", e.what()), e.hint());
  }
  return a;
}

std::vector<int64_t> seeds_of(const std::string& text) {
  std::vector<int64_t> seeds;
  std::string_view rest = text;
  for (bool more = true; more;) {
    const size_t comma = rest.find(',');
    more = comma != std::string_view::npos;
    add_seed(seeds, std::string(without_blanks(rest.substr(0, comma))));
    if (more) rest.remove_prefix(comma + 1);
  }
  return seeds;
}

std::vector<PlannedVariant> plan_variants(const Ablation& ablation, const ConfigParts& base) {
  std::vector<PlannedVariant> planned;
  const auto settle = [&](PlannedVariant& p) {
    std::vector<Setting> settings = base.settings;
    settings.insert(settings.end(), p.settings.begin(), p.settings.end());
    p.config = load_config(base.files, settings);
    resolve(p.config);
    check(p.config);
  };
  for_variants(ablation, [&](size_t i) {
    planned.push_back({ablation.variants[i].name, ablation.variants[i].settings, {}});
    settle(planned[i]);
  });
  // They have the section train in common.
  if (planned[0].config.train.train_stage == 1)
    refuse("train.train_stage is 1, which writes the fresh parameters and trains nothing",
           "--train.train_stage 0; each run makes its fresh parameters itself, from its seed");
  // What the others are matched to: one that has its own width, where there is one.
  const auto matchable = [](const PlannedVariant& p) { return can_be_matched(p.config.model); };
  const auto own =
      ablation.match == Ablation::Match::none ? planned.end() : std::ranges::find_if_not(planned, matchable);
  const size_t like = own == planned.end() ? 0 : static_cast<size_t>(own - planned.begin());
  for_variants(ablation, [&](size_t i) {
    PlannedVariant& p = planned[i];
    if (ablation.match != Ablation::Match::none && i != like) {
      if (std::ranges::count(p.settings, "model.dim_ffn", &Setting::path) > 0)
        refuse(cat("it sets model.dim_ffn, and with match that is chosen to be equal to ", planned[like].name),
               "match: none, or another key in its set");
      const int64_t width = matching_width(p.config.model, planned[like], ablation.match);
      p.settings.push_back({.path = "model.dim_ffn", .text = std::to_string(width)});
      settle(p);
    }
    p.parameters = parameters_of(p.config.model);
    p.flops_per_token = training_flops(p.config.model);
    p.cache_bytes = cache_bytes(p.config.model);
  });
  return planned;
}

int64_t channel_width(const PlannedVariant& v) {
  return v.config.model.channel_width(v.config.model.cmix);
}

std::filesystem::path folder_of(const Ablation& ablation, const Config& base) {
  return std::filesystem::path(base.train.proj_dir) / ablation.name;
}

AblationRun run_of(const Ablation& ablation, const std::vector<PlannedVariant>& planned, size_t variant, int64_t seed,
                   const ConfigParts& base) {
  const PlannedVariant& v = planned[variant];
  AblationRun run{variant, seed, v.config, {}};
  const std::vector<Setting> own = {{.path = "train.proj_dir", .text = folder_of(ablation, v.config).string()},
                                    {.path = "train.proj_name", .text = v.name},
                                    {.path = "train.proj_suffix", .text = cat("s", seed)},
                                    {.path = "train.seed_everything", .text = std::to_string(seed)}};
  apply_settings(own, run.config);
  for (const auto& file : base.files) run.arguments.insert(run.arguments.end(), {"-c", file.string()});
  for (const auto* settings : {&base.settings, &v.settings, &own})
    for (const Setting& s : *settings) run.arguments.push_back(option(s));
  return run;
}

}  // namespace gf
