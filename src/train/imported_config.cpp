// SPDX-License-Identifier: Apache-2.0
#include "train/imported_config.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "base/yaml.h"
#include "io/files.h"
#include "train/config.h"
#include "train/parameters.h"

namespace gf {
namespace {

// What the weights' own file says has its say where shapes would not tell: `then`. `from` names the other one.
void check_agreement(Config now, const std::string& from, Config then, const std::string& in) {
  // One that does not say how large the vocabulary is does not describe a model.
  if (now.model.vocab_size == 0 || then.model.vocab_size == 0) return;
  resolve(then), resolve(now);
  for (const Difference& d : differences_of_models(now, then))
    refuse(cat(d.key, " is ", d.now, " in ", from, ", and ", in, " says that it is ", d.then),
           "without --config, or a file that agrees");
}

}  // namespace

ImportedConfig imported_config(const std::string& in, std::span<const std::string> files, const TensorSource& source) {
  const std::string own = source.config(), name_of_own = cat("the configuration in ", in);
  if (files.empty() && own.empty()) return {};
  ImportedConfig imported;
  Config config;
  const auto take = [&](std::string text, const std::string& name) {
    const std::vector<Setting> settings = parse_yaml(text, name);
    if (settings.empty()) refuse(name + " has no keys", "a configuration like those in configs/");
    apply_settings(settings, config);
    imported.text = std::move(text);
  };
  if (files.empty()) take(own, name_of_own);
  for (const std::string& file : files) take(read_small_file(file, kLongestYaml), file);
  if (files.size() > 1) imported.text = to_yaml(config);
  if (!files.empty() && !own.empty()) check_agreement(config, joined(files), config_from_text(own, name_of_own), in);
  imported.describes_model = config.model.vocab_size > 0;
  if (imported.describes_model) check_weights_of(source, config);
  return imported;
}

}  // namespace gf
