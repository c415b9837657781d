// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace gf {

// When this process began, as seconds_now() would have said then; now, where the system does not tell.
double process_start();

}  // namespace gf
