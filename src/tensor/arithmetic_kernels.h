// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/on_device.h"

namespace gf {

template <class T>
struct FillArgs {
  int64_t n;
  T value;
  T* x;
};

template <class T>
struct AddArgs {
  int64_t n;
  const T *a, *b;
  T* out;
};

template <class T>
struct AccumulateArgs {
  int64_t n;
  const T* term;
  Inner<T>* sum;
};

template <class T>
struct ScaleArgs {
  int64_t n;
  Inner<T> factor;
  T* x;
};

template <class T>
struct SumOfSquaresArgs {
  int64_t n;
  const T* x;
  double* sum;
  double* partial;  // on a GPU: kPartialSums numbers to work with
};
inline constexpr int64_t kPartialSums = 1024;

namespace cpu {
template <class T>
void fill(const FillArgs<T>&);
template <class T>
void add(const AddArgs<T>&);
template <class T>
void scale(const ScaleArgs<T>&);
template <class T>
void sum_of_squares(const SumOfSquaresArgs<T>&);
}  // namespace cpu

namespace cuda {
template <class T>
void fill(const FillArgs<T>&, CudaStream);
template <class T>
void add(const AddArgs<T>&, CudaStream);
template <class T>
void accumulate(const AccumulateArgs<T>&, CudaStream);
template <class T>
void scale(const ScaleArgs<T>&, CudaStream);
template <class T>
void sum_of_squares(const SumOfSquaresArgs<T>&, CudaStream);
template <class From, class To>
void convert(const From* from, To* to, int64_t n, CudaStream);
}  // namespace cuda

}  // namespace gf
