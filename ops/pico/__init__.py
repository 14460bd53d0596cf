"""How the built-in LLM `pico` is made: generator, tokenizer, training, export, measurement."""
