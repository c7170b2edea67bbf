// Which of a block of 128 positions are kept: the locked ones, and of the free ones, lowest first, those
// whose mask bit is 1. WIDTH mask bits a cycle: a block takes ceil(free / WIDTH) + 1 cycles if the next is
// there when it leaves and bits are. In a `const` layer no bits are taken and `value` is that of all. Bits:
// 384, WIDTH + clog2(WIDTH) of mask bits that the block before left, and 1.
module kept #(
    parameter integer WIDTH = 1,
    parameter integer COUNT = $clog2(WIDTH + 1)
) (
    input  logic             clk,
    input  logic             rst,
    input  logic             constant,
    input  logic             value,
    // the block, as pattern.sv gives it
    input  logic             in_valid,
    output logic             in_ready,
    input  logic [    127:0] free,
    input  logic [    127:0] locked,
    input  logic [    127:0] negative,
    // the mask: bit_count bits, 1 to WIDTH, the others being 0
    input  logic             bit_valid,
    output logic             bit_ready,
    input  logic [WIDTH-1:0] mask_bits,
    input  logic [COUNT-1:0] bit_count,
    // the block, of ternary weights
    output logic             out_valid,
    input  logic             out_ready,
    output logic [    127:0] out_kept,
    output logic [    127:0] out_negative
);
    logic busy;
    logic [127:0] left;         // free positions whose bit has not come
    logic [WIDTH-1:0] spare;    // bits that are not used yet, fewer than WIDTH
    logic [COUNT-1:0] spare_count;

    assign out_valid = busy && left == 128'd0;
    assign in_ready = !busy || (out_valid && out_ready);
    wire accept = in_valid && in_ready;

    // The lowest WIDTH positions that are left, and those of them that get a spare bit or one that comes.
    logic [2*WIDTH-1:0] seen;
    logic [COUNT:0] seen_count, used;
    logic [127:0] rest, lowest, given, set;
    logic wants;  // more bits than are spare
    integer i;
    always_comb begin
        seen = {{WIDTH{1'b0}}, spare};
        seen_count = {1'b0, spare_count};
        if (bit_valid) begin
            seen = seen | ({{WIDTH{1'b0}}, mask_bits} << spare_count);
            seen_count = seen_count + {1'b0, bit_count};
        end
        rest = left;
        given = '0;
        set = '0;
        used = '0;
        wants = 1'b0;
        for (i = 0; i < WIDTH; i = i + 1) begin
            lowest = rest & (~rest + 128'd1);
            if (rest != 128'd0) begin
                if (i[COUNT-1:0] >= spare_count) wants = 1'b1;
                if (i[COUNT:0] < seen_count) begin
                    given = given | lowest;
                    if (seen[i]) set = set | lowest;
                    used = used + 1'b1;
                end
            end
            rest = rest & ~lowest;
        end
    end
    assign bit_ready = busy && wants;
    wire comes = bit_valid && bit_ready;
    wire [2*WIDTH-1:0] next_spare = (comes ? seen : {{WIDTH{1'b0}}, spare}) >> used;
    wire [COUNT:0] next_count = (comes ? seen_count : {1'b0, spare_count}) - used;

    always_ff @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
            spare <= '0;
            spare_count <= '0;
        end else begin
            if (accept) busy <= 1'b1;
            else if (out_valid && out_ready) busy <= 1'b0;
            if (busy) begin
                spare <= next_spare[WIDTH-1:0];
                spare_count <= next_count[COUNT-1:0];
            end
        end
        if (accept) begin
            left <= constant ? 128'd0 : free;
            out_kept <= (constant && value) ? locked | free : locked;
            out_negative <= negative;
        end else if (busy) begin
            left <= left & ~given;
            out_kept <= out_kept | set;
        end
    end
endmodule
