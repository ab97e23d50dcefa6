"""Writes Tests/Goldens/gguf: small GGUF files as ggml's own package makes them, and what its reader says
of them. Needs gguf (tools/requirements-llama-cpp.txt).

    python tools/make_gguf.py
"""

import json
import pathlib

import gguf
import numpy

HERE = pathlib.Path(__file__).resolve().parent.parent / "Tests/Goldens/gguf"
TYPES = gguf.GGMLQuantizationType


def write(path):
    writer = gguf.GGUFWriter(path, "granite")
    writer.add_name("Tiny")
    writer.add_context_length(2048)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list([f"token {index}" for index in range(300)])
    writer.add_array("test.mixed", [-1, 2, 3])
    writer.add_bool("test.bool", True)
    writer.add_uint64("test.large", 1 << 63)
    writer.add_int64("test.small", -(1 << 62))
    writer.add_float64("test.double", 0.1)
    values = numpy.random.default_rng(6).standard_normal((3, 256)).astype(numpy.float32)
    writer.add_tensor("token_embd.weight", values)
    writer.add_tensor("output_norm.weight", values[0, :64])
    writer.add_tensor("blk.0.attn_q.weight", values.astype(numpy.float16))
    bf16 = gguf.quantize(values, TYPES.BF16)
    writer.add_tensor("blk.0.attn_k.weight", bf16, raw_dtype=TYPES.BF16)
    for kind in [TYPES.Q4_0, TYPES.Q4_1, TYPES.Q5_0, TYPES.Q5_1, TYPES.Q8_0, TYPES.TQ1_0, TYPES.TQ2_0]:
        writer.add_tensor(f"other.{kind.name}", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def describe(path):
    reader = gguf.GGUFReader(path)
    fields = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    tensors = [
        {
            "name": tensor.name,
            "type": tensor.tensor_type.name,
            "shape": [int(size) for size in reversed(tensor.shape)],
            "offset": int(tensor.data_offset),
            "bytes": int(tensor.n_bytes),
        }
        for tensor in reader.tensors
    ]
    return {"metadata": fields, "tensors": tensors}


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    write(HERE / "tiny.gguf")
    sizes = {kind.name: list(gguf.GGML_QUANT_SIZES[kind]) + [kind.value] for kind in TYPES}
    golden = {"types": sizes, **describe(HERE / "tiny.gguf")}
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


main()
