// One round of Threefry4x32 with the key words that follow every fourth (docs/format.md, section 1); passes x
// on where `run` is 0. Combinational: one addition, rotation and XOR, after rounds 3, 7, ... one or two
// additions more. Bits: none stored.
module threefry_round (
    input  logic [127:0] x,
    input  logic [159:0] keys,  // k4, k3, k2, k1, k0
    input  logic [  4:0] r,     // which round, from 0
    input  logic         run,
    output logic [127:0] y
);
    function automatic [31:0] rotl(input [31:0] number, input integer by);
        rotl = (number << by) | (number >> (32 - by));
    endfunction

    wire [31:0] x0 = x[31:0], x1 = x[63:32], x2 = x[95:64], x3 = x[127:96];
    // The word that is added to x0 and rotated by the first number, and that of x2 and the second.
    wire [31:0] first = r[0] ? x3 : x1;
    wire [31:0] second = r[0] ? x1 : x3;
    wire [31:0] sum0 = x0 + first;
    wire [31:0] sum2 = x2 + second;

    logic [31:0] a, b;
    always_comb begin
        case (r[2:0])
            3'd0: begin a = rotl(first, 10); b = rotl(second, 26); end
            3'd1: begin a = rotl(first, 11); b = rotl(second, 21); end
            3'd2: begin a = rotl(first, 13); b = rotl(second, 27); end
            3'd3: begin a = rotl(first, 23); b = rotl(second, 5); end
            3'd4: begin a = rotl(first, 6); b = rotl(second, 20); end
            3'd5: begin a = rotl(first, 17); b = rotl(second, 11); end
            3'd6: begin a = rotl(first, 25); b = rotl(second, 10); end
            default: begin a = rotl(first, 18); b = rotl(second, 20); end
        endcase
    end
    wire [31:0] mixed1 = r[0] ? (b ^ sum2) : (a ^ sum0);
    wire [31:0] mixed3 = r[0] ? (a ^ sum0) : (b ^ sum2);

    wire [2:0] s = r[4:2] + 3'd1;
    wire [31:0] k0 = keys[31:0], k1 = keys[63:32], k2 = keys[95:64], k3 = keys[127:96], k4 = keys[159:128];
    logic [127:0] injected;
    always_comb begin
        case (s)
            3'd1: injected = {k4, k3, k2, k1};
            3'd2: injected = {k0, k4, k3, k2};
            3'd3: injected = {k1, k0, k4, k3};
            3'd4: injected = {k2, k1, k0, k4};
            default: injected = {k3, k2, k1, k0};
        endcase
        if (r[1:0] != 2'd3) injected = 128'd0;
    end
    wire [31:0] count = r[1:0] == 2'd3 ? {29'd0, s} : 32'd0;

    wire [127:0] after = {
        mixed3 + injected[127:96] + count, sum2 + injected[95:64],
        mixed1 + injected[63:32], sum0 + injected[31:0]
    };
    assign y = run ? after : x;
endmodule
