"""The commands, installed as slt_infer.tools: parse, call one function of slt_infer, print."""
