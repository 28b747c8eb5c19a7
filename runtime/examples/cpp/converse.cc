// A small service: a process that has opened ONNX Runtime itself passes it to ptgc, reads a prompt
// once, and continues two copies of the session at the same time:
//
//   converse BUNDLE ONNXRUNTIME_LIBRARY NUM_NEW_TOKENS TOKEN_ID...
//
// It prints the most probable continuation, and one that is sampled with the seed 1.
#include <dlfcn.h>

#include <future>
#include <iostream>
#include <ptgc.hpp>
#include <stdexcept>
#include <string>

namespace {

// What OrtGetApiBase() of the library returns.
const void* OpenOnnxRuntime(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  void* function = dlsym(library, "OrtGetApiBase");
  if (function == nullptr) throw std::runtime_error(dlerror());
  return reinterpret_cast<const void* (*)()>(function)();
}

void Print(const char* name, const ptgc::TokenIds& token_ids) {
  std::cout << name;
  for (const ptgc::TokenId id : token_ids) std::cout << ' ' << id;
  std::cout << '\n';
}

void Converse(const std::string& bundle, const void* onnxruntime, const ptgc::TokenIds& prompt,
              int num_new_tokens) {
  ptgc::LoadOptions options;
  options.ort_api_base = onnxruntime;
  ptgc::Generator generator(bundle, options);
  ptgc::Session probable = generator.OpenSession();
  probable.Append(prompt);
  ptgc::Session drawn = probable.Fork();

  ptgc::Request request;
  request.max_new_tokens = num_new_tokens;
  std::future<ptgc::TokenIds> other = std::async(std::launch::async, [&probable, request] {
    ptgc::TokenIds heard;
    probable.Generate(request, [&heard](const ptgc_chunk& chunk) {
      heard.insert(heard.end(), chunk.token_ids, chunk.token_ids + chunk.num_tokens);
      return true;
    });
    return heard;
  });
  ptgc::Request draw = request;
  draw.sampling.temperature = 1;
  draw.sampling.seed = 1;
  const ptgc::TokenIds text = drawn.Generate(draw).token_ids();
  Print("probable", other.get());
  Print("drawn", text);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "usage: converse BUNDLE ONNXRUNTIME_LIBRARY NUM_NEW_TOKENS TOKEN_ID...\n";
    return 2;
  }
  try {
    ptgc::TokenIds prompt;
    for (int i = 4; i < argc; ++i) prompt.push_back(std::stoll(argv[i]));
    Converse(argv[1], OpenOnnxRuntime(argv[2]), prompt, std::stoi(argv[3]));
  } catch (const ptgc::Error& error) {
    std::cerr << error.code() << ": " << error.what() << '\n' << error.action() << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
