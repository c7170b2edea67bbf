// mask_decoder.sv with a generator of its own.
module mask_decoder_top #(
    parameter integer PER_CYCLE = 1,
    parameter integer WIDTH = 1,
    parameter integer COUNT = $clog2(WIDTH + 1)
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [ 63:0] seed,
    input  logic [  4:0] rounds,
    input  logic [ 31:0] layer,
    input  logic         wide,
    input  logic [  3:0] planes,
    input  logic         with_sign,
    input  logic [143:0] starts,
    input  logic [191:0] densities,
    input  logic         tile_valid,
    output logic         tile_ready,
    input  logic         raw,
    input  logic [ 31:0] first,
    input  logic [ 31:0] count,
    input  logic [ 30:0] size,
    input  logic         word_valid,
    output logic         word_ready,
    input  logic [ 15:0] word,
    output logic         bit_valid,
    input  logic         bit_ready,
    output logic [WIDTH-1:0] mask_bits,
    output logic [COUNT-1:0] bit_count,
    output logic         done,
    output logic [  2:0] refused
);
    logic call_valid, call_ready, words_valid, words_ready;
    logic [127:0] counter, words;
    threefry #(.PER_CYCLE(PER_CYCLE)) generator (
        .clk(clk), .rst(rst), .key({64'd0, seed}), .rounds(rounds), .in_valid(call_valid),
        .in_ready(call_ready), .counter(counter), .out_valid(words_valid), .out_ready(words_ready),
        .out(words)
    );
    mask_decoder #(.WIDTH(WIDTH)) decoder (.*);
endmodule
