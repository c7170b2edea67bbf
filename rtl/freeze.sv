// Freeze planes of WIDTH positions to what is free and what is locked (docs/format.md, section 3),
// bit-sliced: one plane a cycle, the most significant first, is compared with a bit of each threshold. free
// and locked are of the planes taken since `clear`, and right after the last of `bits` of them, in the next
// cycle; with no bits, after `clear`. Bits: 4 a position and 5.
module freeze #(
    parameter integer WIDTH = 128
) (
    input  logic             clk,
    input  logic [      4:0] bits,   // B, 0 to 16
    input  logic [     16:0] prune,  // p
    input  logic [     16:0] lock,   // l, p + l at most 2^B
    input  logic             clear,
    input  logic             take,
    input  logic [WIDTH-1:0] plane,
    output logic [WIDTH-1:0] free,
    output logic [WIDTH-1:0] locked
);
    // Below p so far, and equal to it so far; the same of 2^B - l.
    logic [WIDTH-1:0] below_p, same_p, below_l, same_l;
    logic [4:0] taken;

    wire [16:0] first_locked = (17'd1 << bits) - lock;
    wire [4:0] at = bits - 5'd1 - taken;
    wire [WIDTH-1:0] of_p = {WIDTH{prune[at]}};
    wire [WIDTH-1:0] of_l = {WIDTH{first_locked[at]}};

    // A threshold of 2^B: all numbers are below it.
    wire [WIDTH-1:0] pruned = below_p | {WIDTH{prune[bits]}};
    assign locked = ~(below_l | {WIDTH{first_locked[bits]}});
    assign free = ~pruned & ~locked;

    always_ff @(posedge clk) begin
        if (clear) begin
            below_p <= '0;
            below_l <= '0;
            same_p <= '1;
            same_l <= '1;
            taken <= '0;
        end else if (take) begin
            below_p <= below_p | (same_p & ~plane & of_p);
            below_l <= below_l | (same_l & ~plane & of_l);
            same_p <= same_p & ~(plane ^ of_p);
            same_l <= same_l & ~(plane ^ of_l);
            taken <= taken + 5'd1;
        end
    end
endmodule
