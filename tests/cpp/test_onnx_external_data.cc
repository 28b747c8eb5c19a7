#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "bundle/onnx_external_data.h"
#include "onnx_bytes.h"

namespace ptgc {
namespace {

using Files = std::vector<std::string>;

Files FilesOf(const std::string& model) { return ExternalFilesOf(model, "model.onnx"); }

TEST(OnnxExternalData, FindsTensorsWhereverTheyAre) {
  const std::string tensor = ExternalTensor("x.data");
  const std::string attribute = OnnxField(5, OnnxField(5, tensor));  // Of a node: t.
  const std::string node = OnnxField(1, attribute);
  EXPECT_EQ(FilesOf(ModelWithWeights("x.data")), Files{"x.data"});
  EXPECT_EQ(FilesOf(OnnxField(7, node)), Files{"x.data"});
  // A graph of an attribute, a list of tensors, a sparse one, a function, training information.
  EXPECT_EQ(FilesOf(OnnxField(7, OnnxField(1, OnnxField(5, OnnxField(6, node))))), Files{"x.data"});
  EXPECT_EQ(FilesOf(OnnxField(7, OnnxField(1, OnnxField(5, OnnxField(10, tensor))))),
            Files{"x.data"});
  EXPECT_EQ(FilesOf(OnnxField(7, OnnxField(15, OnnxField(1, tensor)))), Files{"x.data"});
  EXPECT_EQ(FilesOf(OnnxField(25, OnnxField(7, attribute))), Files{"x.data"});
  EXPECT_EQ(FilesOf(OnnxField(20, OnnxField(1, node))), Files{"x.data"});
}

TEST(OnnxExternalData, NamesEachFileOnce) {
  EXPECT_EQ(FilesOf(ModelWithWeights("b") + ModelWithWeights("a") + ModelWithWeights("b")),
            (Files{"a", "b"}));
  EXPECT_EQ(FilesOf(""), Files());
}

TEST(OnnxExternalData, RefusesWhatIsNoModel) {
  const std::string model = ModelWithWeights("x.data");
  std::string nested = model;
  for (int i = 0; i < 300; ++i) nested = OnnxField(1, OnnxField(5, OnnxField(6, nested)));
  for (const std::string& bytes :
       {model.substr(0, model.size() - 1), std::string("no model"), std::string("\xFF\xFF\xFF"),
        // The tag of the graph with bits beyond 32, and a field that is none.
        "\xBA\x80\x80\x80\x10" + model.substr(1), std::string("\x02") + model.substr(1),
        std::string(20, '\xFF'), OnnxField(7, nested)}) {
    try {
      FilesOf(bytes);
      ADD_FAILURE() << bytes.size();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBundle);
      EXPECT_EQ(error.message(), "model.onnx is no ONNX model.");
    }
  }
}

}  // namespace
}  // namespace ptgc
