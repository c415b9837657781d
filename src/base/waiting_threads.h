// SPDX-License-Identifier: Apache-2.0
// How the threads that compute wait for one another.
#pragma once

namespace gf {

// By default GNU's OpenMP has them spin for milliseconds: nothing is gained by it where each has a core, and where
// another program wants one of the cores, a spinning thread keeps it from the one that all wait for, and a step takes
// ten times as long. So they spin shortly and then sleep, unless the environment says how they are to wait. OpenMP
// reads that when it is loaded: begins the program anew, and returns only where nothing is to be changed. First thing
// in a main().
void let_waiting_threads_sleep(char** argv);

}  // namespace gf
