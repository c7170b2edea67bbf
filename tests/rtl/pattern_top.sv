// pattern.sv with a generator of its own.
module pattern_top #(
    parameter integer PER_CYCLE = 1
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [ 63:0] seed,
    input  logic [  4:0] rounds,
    input  logic [ 31:0] layer,
    input  logic         mixed,
    input  logic [  4:0] bits,
    input  logic [ 16:0] prune,
    input  logic [ 16:0] lock,
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [ 31:0] block,
    input  logic [  7:0] columns,
    output logic         out_valid,
    input  logic         out_ready,
    output logic [127:0] free,
    output logic [127:0] locked,
    output logic [127:0] negative
);
    logic call_valid, call_ready, words_valid, words_ready;
    logic [127:0] counter, words;
    threefry #(.PER_CYCLE(PER_CYCLE)) generator (
        .clk(clk), .rst(rst), .key({64'd0, seed}), .rounds(rounds), .in_valid(call_valid),
        .in_ready(call_ready), .counter(counter), .out_valid(words_valid), .out_ready(words_ready),
        .out(words)
    );
    pattern blocks (
        .clk(clk), .rst(rst), .layer(layer), .mixed(mixed), .bits(bits), .prune(prune), .lock(lock),
        .in_valid(in_valid), .in_ready(in_ready), .block(block), .columns(columns), .call_valid(call_valid),
        .call_ready(call_ready), .counter(counter), .words_valid(words_valid), .words_ready(words_ready),
        .words(words), .out_valid(out_valid), .out_ready(out_ready), .free(free), .locked(locked),
        .negative(negative)
    );
endmodule
