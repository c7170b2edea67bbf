// The adder array: ROWS output channels by COLUMNS activations, all weights ternary, no multiplier. A step a
// cycle adds to each row's sum the kept activations, negative ones subtracted; `last` gives the sums, which
// start from 0 after it. Sums are out 2 cycles after the last step is taken, and the next pixel's steps
// follow at once; a step waits only for a sum that is not taken. Bits: ROWS * (2 * ACC + BITS +
// clog2(COLUMNS) + 1) and 4.
module adder_tile #(
    parameter integer ROWS = 8,
    parameter integer COLUMNS = 8,
    parameter integer BITS = 8,    // of an activation
    parameter integer ACC = 32     // of a sum
) (
    input  logic                    clk,
    input  logic                    rst,
    input  logic                    in_valid,
    output logic                    in_ready,
    input  logic                    last,
    input  logic [COLUMNS*BITS-1:0] activations,
    input  logic [ROWS*COLUMNS-1:0] kept,      // row by row
    input  logic [ROWS*COLUMNS-1:0] negative,
    output logic                    out_valid,
    input  logic                    out_ready,
    output logic [    ROWS*ACC-1:0] sums
);
    localparam integer PART = BITS + $clog2(COLUMNS) + 1;

    logic part_valid, part_last, fresh;  // fresh: nothing has been added since the last sums
    wire go = !(part_valid && part_last && out_valid && !out_ready);
    assign in_ready = go;

    genvar r;
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : g_row
            logic signed [PART-1:0] tree, part;
            logic signed [ACC-1:0] sum, result;
            logic signed [BITS-1:0] one;
            integer c;
            always_comb begin
                tree = '0;
                one = '0;
                for (c = 0; c < COLUMNS; c = c + 1) begin
                    one = activations[BITS*c+:BITS];
                    if (kept[COLUMNS*r+c]) begin
                        if (negative[COLUMNS*r+c]) tree = tree - {{(PART - BITS) {one[BITS-1]}}, one};
                        else tree = tree + {{(PART - BITS) {one[BITS-1]}}, one};
                    end
                end
            end
            wire signed [ACC-1:0] added = (fresh ? {ACC{1'b0}} : sum) + {{(ACC - PART) {part[PART-1]}}, part};
            always_ff @(posedge clk) begin
                if (go) begin
                    part <= tree;
                    if (part_valid) sum <= added;
                    if (part_valid && part_last) result <= added;
                end
            end
            assign sums[ACC*r+:ACC] = result;
        end
    endgenerate

    always_ff @(posedge clk) begin
        if (rst) begin
            part_valid <= 1'b0;
            out_valid <= 1'b0;
            fresh <= 1'b1;
        end else begin
            if (go) begin
                part_valid <= in_valid;
                part_last <= last;
                if (part_valid) fresh <= part_last;
            end
            if (go && part_valid && part_last) out_valid <= 1'b1;
            else if (out_ready) out_valid <= 1'b0;
        end
    end
endmodule
