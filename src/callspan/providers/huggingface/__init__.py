"""huggingface: the adapter of Text Generation Inference; Hugging Face's other APIs are chat completions."""
