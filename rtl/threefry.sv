// The generator: Threefry4x32 of 12, 13 or 20 rounds, PER_CYCLE of them a cycle (docs/format.md, section 1).
// A counter taken in one cycle has its words out ceil(rounds / PER_CYCLE) cycles later, and the next counter
// can be taken in the cycle in which they are: one call every ceil(rounds / PER_CYCLE) cycles. key and rounds
// stay while it works. Bits: 128 of state, 6 of rounds done, 1 busy.
module threefry #(
    parameter integer PER_CYCLE = 1  // 1 to 20
) (
    input  logic         clk,
    input  logic         rst,
    input  logic [127:0] key,     // k3, k2, k1, k0; of a ticket k3 = k2 = 0
    input  logic [  4:0] rounds,
    input  logic         in_valid,
    output logic         in_ready,
    input  logic [127:0] counter, // c3, c2, c1, c0
    output logic         out_valid,
    input  logic         out_ready,
    output logic [127:0] out      // bit i is bit i of the block
);
    logic [127:0] state;
    logic [5:0] done;
    logic busy;

    wire finished = done >= {1'b0, rounds};
    assign out_valid = busy && finished;
    assign in_ready = !busy || (finished && out_ready);
    assign out = state;
    wire accept = in_valid && in_ready;

    wire [31:0] parity = 32'h1BD11BDA ^ key[31:0] ^ key[63:32] ^ key[95:64] ^ key[127:96];
    wire [159:0] keys = {parity, key};
    wire [127:0] keyed = {
        counter[127:96] + key[127:96], counter[95:64] + key[95:64],
        counter[63:32] + key[63:32], counter[31:0] + key[31:0]
    };

    wire [5:0] base = accept ? 6'd0 : done;
    wire [128*(PER_CYCLE+1)-1:0] chain;
    assign chain[127:0] = accept ? keyed : state;
    genvar i;
    generate
        for (i = 0; i < PER_CYCLE; i = i + 1) begin : g_round
            wire [5:0] r = base + i[5:0];
            threefry_round round (
                .x(chain[128*i+:128]), .keys(keys), .r(r[4:0]), .run(r < {1'b0, rounds}),
                .y(chain[128*(i+1)+:128])
            );
        end
    endgenerate

    always_ff @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
        end else if (accept) begin
            busy <= 1'b1;
        end else if (out_valid && out_ready) begin
            busy <= 1'b0;
        end
        if (accept || (busy && !finished)) begin
            state <= chain[128*PER_CYCLE+:128];
            done <= base + PER_CYCLE[5:0];
        end
    end
endmodule
