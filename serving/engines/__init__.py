"""The engines that compute answers, on two levels (serving.engines.contract).

A *step engine* computes one step: a prefill of one prompt, or a decode of all live slots. A *text engine* answers many requests at
the same time; serving.engines.batching makes one of any step engine, and an engine that batches by itself (vLLM) is one.
"""
